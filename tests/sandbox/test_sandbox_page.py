"""The page of one task, which stands for the service's own."""

from __future__ import annotations

from html import unescape

import pytest
import requests

LONG = {"steps": 4, "step_seconds": 60}
HOSTILE = '</pre><script>alert("1")</script>\u202e\x1b[31m & more'


def open_page(sandbox, task_id, **headers):
    return requests.get(f"{sandbox.url}/_sandbox/tasks/{task_id}", headers=headers, timeout=10)


def test_a_running_task_is_shown_and_reloaded(http, sandbox):
    sandbox.script(**LONG, usage={"tokens": 5, "currency": "EUR"})
    task_id = http.start("Find the answer.")["task_id"]
    http("POST", f"/agent/tasks/{task_id}/messages", {"message": "Hurry."})
    reply = open_page(sandbox, task_id)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = unescape(reply.text)
    for shown in (
        task_id,
        "lightcone",
        "running",
        "0 of 4",
        "Find the answer.",
        "Hurry.",
        '"tokens": 0',
        "EUR",
    ):
        assert shown in text
    assert 'http-equiv="refresh"' in text
    assert "Exit code" not in text


def test_an_ended_task_is_shown_and_not_reloaded(http, sandbox):
    accepted = http.submit("Work.", agent_id="agt_mine")
    http("POST", accepted["cancel_url"])
    text = open_page(sandbox, accepted["task_id"]).text
    for shown in ("shinzo", "agt_mine", "cancelled", "Exit code"):
        assert shown in text
    assert "refresh" not in text


def test_the_question_is_shown(http, sandbox):
    sandbox.script(steps=1, step_seconds=0, ask=["Red or blue?"])
    text = open_page(sandbox, http.start()["task_id"]).text
    assert "awaiting_input" in text
    assert "Red or blue?" in text


def test_what_an_agent_says_is_escaped(http, sandbox):
    sandbox.script(steps=1, step_seconds=0, ask=[HOSTILE], usage={HOSTILE: HOSTILE + "\ud83d"})
    task_id = http.start(HOSTILE)["task_id"]
    http("POST", f"/agent/tasks/{task_id}/pause")
    reply = open_page(sandbox, task_id)
    assert "<script" not in reply.text
    assert reply.text.count("<pre>") == reply.text.count("</pre>")
    assert not {"\u202e", "\x1b"} & set(reply.text)
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_long_texts_are_shortened(http, sandbox):
    text = open_page(sandbox, http.start("x" * 1_000_000)["task_id"]).text
    assert len(text) < 10_000
    assert "x…" in text


def test_the_same_is_there_as_json(http, sandbox):
    sandbox.script(**LONG, usage={"tokens": 5})
    task_id = http.start("Find the answer.")["task_id"]
    reply = open_page(sandbox, task_id, Accept="application/json")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == sandbox.tasks()[0]
    assert reply.json()["usage"] == {"tokens": 0}
    assert reply.json()["total_steps"] == 4


@pytest.mark.parametrize("task_id", ["tsk_none", "%2e%2e", "a%2Fb"])
def test_an_unknown_task_has_no_page(sandbox, task_id):
    assert open_page(sandbox, task_id).status_code == 404
