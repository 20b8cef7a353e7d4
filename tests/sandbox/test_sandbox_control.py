from __future__ import annotations

import json
import time

import requests

LONG = '#sandbox {"step_seconds": 60}'


def test_requests_are_logged_in_order_with_their_json_and_without_headers(http, sandbox):
    before = time.time()
    task_id = http.start(LONG)["task_id"]
    http("GET", f"/agent/tasks/{task_id}?verbose=1")
    http("POST", f"/agent/tasks/{task_id}/pause", headers={"Authorization": "Bearer no"})
    start, status, pause = sandbox.requests()
    assert set(start) == {"time", "method", "path", "status", "body"}
    assert before - 1 <= start["time"] <= status["time"] <= pause["time"] <= time.time() + 1
    assert (start["method"], start["path"], start["status"]) == ("POST", "/agent/tasks", 200)
    assert start["body"] == {"instruction": LONG}
    assert (status["path"], status["status"], status["body"]) == (f"/agent/tasks/{task_id}", 200, None)
    assert pause["status"] == 401


def test_paths_are_logged_as_they_were_sent(http, sandbox):
    http("GET", "/agent/tasks/a%2Fb%20c")
    assert sandbox.requests()[0]["path"] == "/agent/tasks/a%2Fb%20c"


def test_the_key_is_nowhere_in_the_log(http, sandbox):
    key = sandbox.api_key
    http.start(f"My key is {key}.")
    http("GET", f"/agent/tasks/{key}?key={key}")
    http("POST", "/agent/request/agt_abc", data=f"not json {key}".encode())
    http("POST", "/agent/tasks", {"instruction": key * 50_000})
    log = sandbox.requests()
    assert len(log) == 4
    assert key not in json.dumps(log)


def test_control_requests_are_not_logged(sandbox):
    sandbox.tasks()
    sandbox.faults([])
    requests.get(f"{sandbox.url}/_sandbox/nothing", timeout=10)
    assert sandbox.requests() == []


def test_control_requests_meet_no_faults_and_need_no_key(sandbox):
    sandbox.faults([{"status": 500}])
    for path in ("requests", "tasks"):
        reply = requests.get(f"{sandbox.url}/_sandbox/{path}", timeout=10)
        assert (reply.status_code, reply.json()) == (200, [])


def test_bodies_that_are_no_json_are_logged_as_null_and_long_ones_shortened(http, sandbox):
    http("POST", "/agent/tasks", data=b"\xff\xfe")
    http("POST", "/agent/tasks", data=b'{"a": NaN}')
    http.start("x" * 200_000)
    broken, no_number, long = (request["body"] for request in sandbox.requests())
    assert (broken, no_number) == (None, None)
    assert len(long) < 2_000
    assert long.startswith('{"instruction": "xxx')
    assert "bytes)" in long


def test_tasks_of_both_services_are_listed_with_all_that_was_done_to_them(http, sandbox):
    http.start(LONG, idempotency_key="k", metadata={"a": "b"})
    accepted = http.submit(LONG, agent_id="agt_mine", priority=3)
    http("POST", f"{accepted['poll_url']}/message", {"message": "hello"})
    http("POST", accepted["cancel_url"])
    lightcone, shinzo = sandbox.tasks()
    assert (lightcone["service"], lightcone["agent_id"], lightcone["status"]) == (
        "lightcone",
        None,
        "running",
    )
    assert (lightcone["times_started"], lightcone["idempotency_key"], lightcone["exit_code"]) == (
        1,
        "k",
        None,
    )
    assert lightcone["request"] == {"instruction": LONG, "idempotency_key": "k", "metadata": {"a": "b"}}
    assert (shinzo["service"], shinzo["task_id"]) == ("shinzo", accepted["task_id"])
    assert (shinzo["agent_id"], shinzo["status"]) == ("agt_mine", "cancelled")
    assert [message["message"] for message in shinzo["messages"]] == ["hello"]
    assert shinzo["request"]["priority"] == 3
    assert shinzo["webhook_deliveries"] == []


def test_deleting_forgets_tasks_requests_keys_and_faults(http, sandbox):
    first = http.start(LONG, idempotency_key="k")["task_id"]
    sandbox.faults([{"status": 500, "times": 100}])
    reply = requests.delete(f"{sandbox.url}/_sandbox", timeout=10)
    assert (reply.status_code, reply.content) == (204, b"")
    assert (sandbox.tasks(), sandbox.requests()) == ([], [])
    assert http("GET", f"/agent/tasks/{first}").status_code == 404
    assert http.start(LONG, idempotency_key="k")["reused"] is False
