"""The form: what of the agent's words stands in it, and what is read of an answer."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.question_form import (
    LINE_LENGTH,
    MAX_LINES,
    OPTIONS,
    SEND,
    STOP,
    Asking,
    names_other_question,
    read_response,
)

LOG_URL = "http://airflow.example/dags/d/runs/manual__(1)/tasks/t"
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "http://evil.example and www.evil.example and a@evil.example",
    "```\n<b>out</b>\n```",
    "`\u2060`\u2060`\n![x](http://evil.example/x.png)",
    "~~~\n# out\n~~~",
    "\r\n```\r\n# out",
    "a\u2028```\u2028# out",
    "    ```\n# out",
    "`" * 500 + "\n# out",
    "x" * 1_000_000,
    "word " * 200_000,
    "\n" * 100_000,
    "\x00\x1b[31m\u202egnp.exe\u2066\ufeff\ud800",
]


def ask(question: str | None, **fields: Any) -> Asking:
    task = AgentTask("shinzo", "tsk_1", TaskState.AWAITING_INPUT, question=question, **fields)
    return Asking(2, "2-abc", task, "Shinzo", "Find the company.", LOG_URL)


def outside_of_fences(body: str) -> str:
    """Return what a Markdown reader takes for markup: CommonMark's rule for the end of a fenced block."""
    kept, fence = [], ""
    for line in body.split("\n"):
        if not fence and (opening := re.match(r" {0,3}(`{3,})", line)):
            fence = opening[1]
        elif fence and (closing := re.fullmatch(r" {0,3}(`{3,})\s*", line)) and len(closing[1]) >= len(fence):
            fence = ""
        elif not fence:
            kept.append(line)
    assert not fence, "a fenced block is left open"
    return "\n".join(kept)


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form_of", [Asking.build_form, Asking.build_lasting_form])
def test_hostile_words_are_no_markup_wherever_they_stand(words: str, form_of: Any) -> None:
    progress = Progress(current_step=words[:1000], steps_completed=1, total_steps=3)
    harmless = outside_of_fences(form_of(ask("Which?")).body)
    asking = Asking(
        2,
        "2-abc",
        AgentTask(
            "shinzo",
            words[:1000],
            TaskState.AWAITING_INPUT,
            agent_id=words[:1000],
            question=words,
            progress=progress,
        ),
        "Shinzo",
        words,
        LOG_URL,
    )
    form = form_of(asking)
    assert outside_of_fences(form.body) == harmless
    assert len(form.body) < 12_000
    assert len(form.subject) <= 140
    assert "\n" not in form.subject
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", form.body
    )


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_lines_fit_the_page_and_are_bounded_in_number(words: str) -> None:
    lines = ask(words).build_form().body.split("\n")
    assert len(lines) < 2 * MAX_LINES
    assert all(len(line) <= LINE_LENGTH for line in lines if not line.startswith(("Type", "[", "`")))


def test_the_form_tells_all_that_is_needed_to_answer() -> None:
    form = ask(
        "Which company?\n  1. Acme\n  2. Apex",
        agent_id="agt_research",
        progress=Progress("Comparing registers", 3, 8),
    ).build_form()
    assert form.subject == "Question 2: Which company? 1. Acme 2. Apex"
    for part in (
        "Which company?\n  1. Acme\n  2. Apex",
        "Agent task tsk_1 on Shinzo",
        "Agent agt_research",
        "3 of 8 steps done",
        "At: Comparing registers",
        "Find the company.",
        f"](<{LOG_URL}>)",
        "**Send**",
        "**Stop the agent**",
    ):
        assert part in form.body
    assert form.params["question_id"]["schema"]["const"] == "2-abc"
    assert form.params["reply"]["schema"]["maxLength"] == 10_000


@pytest.mark.parametrize(
    ("progress", "fact"),
    [(Progress(steps_completed=3), "3 steps done"), (Progress(current_step="Looking"), "At: Looking")],
)
def test_progress_is_told_as_far_as_it_is_known(progress: Progress, fact: str) -> None:
    assert fact in ask("Which?", progress=progress).build_form().body


def test_no_question_still_makes_a_form() -> None:
    assert ask(None).build_form().subject == "Question 2:"


def test_a_form_that_keeps_its_text_says_where_the_newest_question_is() -> None:
    form = ask("Which?").build_lasting_form()
    assert "The question to answer is the newest one" in form.body
    assert "This was question 2:" in form.body
    assert "XCom" in form.subject
    assert list(form.params) == ["reply"]


def test_an_answer_tells_who_what_and_when() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    reply = read_response(
        {
            "chosen_options": ["Send"],
            "params_input": {"reply": " One.\nTwo. "},
            "responded_at": moment,
            "responded_by_user": {"id": "7", "name": "Ada"},
        }
    )
    assert reply is not None
    assert (reply.chosen_option, reply.text) == (SEND, " One.\nTwo. ")
    assert reply.answered_by == {"id": "7", "name": "Ada"}
    assert reply.answered_at == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("options", [["Stop the agent"], ("Send", "Stop the agent"), ["Stop the agent", "x"]])
def test_to_stop_wins_over_all_else(options: Any) -> None:
    reply = read_response({"chosen_options": options})
    assert reply is not None
    assert reply.chosen_option == STOP


@pytest.mark.parametrize(
    "given", [None, {}, {"reply": None}, {"reply": 3}, {"reply": " \n"}, {"reply": ["x"]}, "x", [1]]
)
def test_a_reply_that_is_no_text_is_none(given: Any) -> None:
    reply = read_response({"chosen_options": ["Send"], "params_input": given, "responded_by_user": "x"})
    assert reply is not None
    assert reply.text is None
    assert reply.answered_by == {"id": "unknown", "name": "unknown"}


def test_what_cannot_be_stored_is_taken_out_of_an_answer() -> None:
    event = {
        "chosen_options": ["Send"],
        "params_input": {"reply": "a\ud800b\0c"},
        "responded_by_user": {"id": "\ud800", "name": "x" * 1000},
        "responded_at": "2026-01-01T00:00:00+00:00",
    }
    reply = read_response(event)
    assert reply is not None
    assert reply.text == "a?bc"
    assert len(reply.answered_by["name"]) <= 200
    assert reply.answered_at == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "event",
    [
        *(None, 3, "Send", [], {}),
        {"chosen_options": []},
        {"chosen_options": "Send"},
        {"error": "The response timeout has passed.", "error_type": "timeout"},
        {"verdict": "reached", "agent_task_id": "tsk_1"},
    ],
)
def test_what_is_no_answer_is_none(event: Any) -> None:
    assert read_response(event) is None


@pytest.mark.parametrize(
    ("given", "is_other"),
    [({"question_id": "1-x"}, True), ({"question_id": "2-abc"}, False), ({}, False), (None, False)],
)
def test_an_answer_from_a_page_of_an_earlier_question_is_known(given: Any, is_other: bool) -> None:
    assert names_other_question({"params_input": given}, "2-abc") is is_other


def test_the_options_are_the_same_for_every_question() -> None:
    # Airflow keeps the options of a task's first form, and refuses any other.
    assert OPTIONS == ("Send", "Stop the agent")
