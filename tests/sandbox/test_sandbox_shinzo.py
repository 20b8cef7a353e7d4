"""The Shinzo half, called as in the service's own examples."""

from __future__ import annotations

import re

import pytest
import requests

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
LONG = '#sandbox {"steps": 5, "step_seconds": 60}\nReview the code'


def test_the_submit_example(sandbox):
    reply = requests.post(
        f"{sandbox.url}/agent/request/agt_abc123def456",
        headers={"Authorization": f"Bearer {sandbox.api_key}", "Content-Type": "application/json"},
        json={
            "message": "Review the code in /workspace/src and provide feedback",
            "priority": 7,
            "metadata": {"project": "frontend-app"},
        },
        timeout=10,
    )
    accepted = reply.json()
    assert reply.status_code == 202
    assert list(accepted) == ["task_id", "status", "created_at", "estimated_start", "poll_url", "cancel_url"]
    assert accepted["status"] == "queued"
    assert STAMP.fullmatch(accepted["created_at"])
    assert STAMP.fullmatch(accepted["estimated_start"])
    assert accepted["poll_url"] == f"{sandbox.url}/agent/agt_abc123def456/task/{accepted['task_id']}"
    assert accepted["cancel_url"] == f"{accepted['poll_url']}/cancel"
    assert sandbox.tasks()[0]["request"]["priority"] == 7


def test_the_status_example_of_a_running_task(http):
    reply = http("GET", http.submit(LONG)["poll_url"])
    status = reply.json()
    assert reply.status_code == 200
    assert list(status) == ["task_id", "status", "created_at", "started_at", "progress"]
    assert status["status"] == "running"
    assert STAMP.fullmatch(status["started_at"])
    assert status["progress"] == {"current_step": "Step 1 of 5", "steps_completed": 0, "total_steps": 5}


def test_the_status_example_of_a_completed_task(http, scripted, wait_until):
    result = {"summary": "Code review completed successfully", "findings": [{"line": 42}]}
    url = http.submit(scripted(result=result))["poll_url"]
    status = wait_until(lambda: (s := http("GET", url).json())["status"] == "completed" and s)
    assert list(status) == ["task_id", "status", "created_at", "started_at", "completed_at", "result"]
    assert STAMP.fullmatch(status["completed_at"])
    assert status["result"] == result


def test_the_message_example(http, scripted, wait_until):
    accepted = http.submit(scripted(ask=["Refactor?"]))
    status = wait_until(lambda: (s := http("GET", accepted["poll_url"]).json()).get("question") and s)
    assert list(status) == ["task_id", "status", "created_at", "started_at", "progress", "question"]
    assert (status["status"], status["question"]) == ("awaiting_input", "Refactor?")
    reply = http("POST", f"{accepted['poll_url']}/message", {"message": "Yes, proceed with the refactoring"})
    assert reply.status_code == 200
    assert reply.json() == {"task_id": accepted["task_id"], "status": "running", "message_received": True}
    wait_until(lambda: http("GET", accepted["poll_url"]).json()["status"] == "completed")


def test_the_cancel_example(http):
    accepted = http.submit(LONG)
    reply = http("POST", accepted["cancel_url"])
    assert (reply.status_code, list(reply.json())) == (200, ["task_id", "status", "cancelled_at"])
    assert (reply.json()["task_id"], reply.json()["status"]) == (accepted["task_id"], "cancelled")
    assert STAMP.fullmatch(reply.json()["cancelled_at"])
    status = http("GET", accepted["poll_url"]).json()
    assert list(status) == ["task_id", "status", "created_at", "started_at", "cancelled_at"]


def test_a_queued_task_has_neither_start_nor_progress_and_can_be_cancelled(http):
    accepted = http.submit('#sandbox {"queued_seconds": 60}')
    assert accepted["estimated_start"] > accepted["created_at"]
    assert list(http("GET", accepted["poll_url"]).json()) == ["task_id", "status", "created_at"]
    assert http("POST", accepted["cancel_url"]).json()["status"] == "cancelled"


@pytest.mark.parametrize("word", ["completed", "failed", "cancelled"])
def test_an_ended_task_takes_neither_cancel_nor_message(http, scripted, word):
    accepted = http.submit(scripted(step_seconds=0, status=word))
    for reply in (
        http("POST", accepted["cancel_url"]),
        http("POST", f"{accepted['poll_url']}/message", {"message": "late"}),
    ):
        assert reply.status_code == 400
        assert f"ended as {word}" in reply.json()["error"]


def test_a_status_of_the_testers_own_making_is_passed_on(http, scripted):
    accepted = http.submit(scripted(step_seconds=0, status="hibernating"))
    assert http("GET", accepted["poll_url"]).json()["status"] == "hibernating"


def test_the_time_limit_makes_the_task_fail(http, wait_until):
    accepted = http.submit(LONG, timeout_override=0.2)
    status = wait_until(lambda: (s := http("GET", accepted["poll_url"]).json())["status"] == "failed" and s)
    assert list(status) == ["task_id", "status", "created_at", "started_at", "completed_at"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message", None),
        ("message", " "),
        ("message", 5),
        ("message", "#sandbox nonsense"),
        ("priority", 0),
        ("priority", 11),
        ("priority", "7"),
        ("timeout_override", 0),
        ("timeout_override", -5),
        ("timeout_override", "60"),
        ("metadata", []),
        ("metadata", "text"),
        ("callback_mode", "carrier pigeon"),
        ("webhook_url", "ftp://example.com"),
        ("webhook_url", "http://"),
        ("webhook_url", "http://[broken"),
        ("webhook_url", 5),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_started(http, sandbox, field, value):
    reply = http("POST", "/agent/request/agt_abc", {"message": "Work.", field: value})
    assert reply.status_code == 400
    assert ("#sandbox" if "#sandbox" in str(value) else field) in reply.json()["error"]
    assert sandbox.tasks() == []


def test_the_webhook_mode_needs_an_address(http):
    reply = http("POST", "/agent/request/agt_abc", {"message": "Work.", "callback_mode": "webhook"})
    assert reply.status_code == 400
    assert "webhook_url" in reply.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
def test_a_body_that_is_no_json_object_is_refused(http, body):
    assert http("POST", "/agent/request/agt_abc", data=body).status_code == 400


@pytest.mark.parametrize(
    ("agent_id", "status"), [("agt_unknown", 404), ("someone", 404), ("agt_unavailable", 503)]
)
def test_agents_that_cannot_work(http, sandbox, agent_id, status):
    reply = http("POST", f"/agent/request/{agent_id}", {"message": "Work."})
    assert (reply.status_code, agent_id in reply.json()["error"]) == (status, True)
    assert sandbox.tasks() == []


def test_a_task_is_found_under_its_own_agent_only(http):
    accepted = http.submit(LONG, agent_id="agt_mine")
    path = f"/agent/agt_other/task/{accepted['task_id']}"
    assert http("GET", path).status_code == 404
    assert http("POST", f"{path}/message", {"message": "hello"}).status_code == 404
    assert http("POST", f"{path}/cancel").status_code == 404
    assert http("GET", "/agent/agt_mine/task/tsk_unknown").status_code == 404
    assert http("GET", accepted["poll_url"]).json()["status"] == "running"


def test_a_lightcone_task_is_not_a_shinzo_task(http):
    assert http("GET", f"/agent/agt_abc/task/{http.start()['task_id']}").status_code == 404


def test_an_empty_message_is_refused(http):
    url = f"{http.submit(LONG)['poll_url']}/message"
    for body in ({}, {"message": ""}, {"message": 5}):
        assert http("POST", url, body).status_code == 400


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer sk_sandbox"}, {"x-shinzo-api-key": "sk_sandbox"}]
)
def test_the_key_may_come_in_either_header(http, headers):
    reply = http("POST", "/agent/request/agt_abc", {"message": "Work."}, headers=headers)
    assert reply.status_code == 202


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no"}, {"x-shinzo-api-key": "no"}])
def test_a_wrong_or_missing_key_is_refused(http, headers):
    for method, path in (
        ("POST", "/agent/request/agt_abc"),
        ("GET", "/agent/agt_abc/task/tsk_x"),
        ("POST", "/agent/agt_abc/task/tsk_x/message"),
        ("POST", "/agent/agt_abc/task/tsk_x/cancel"),
    ):
        reply = http(method, path, headers=headers)
        assert (reply.status_code, list(reply.json())) == (401, ["error"])
