from __future__ import annotations

import time

import pytest
import requests

from airflow_agent_tasks.errors import AgentTaskArgumentError

START = {"instruction": '#sandbox {"step_seconds": 60}'}


@pytest.mark.parametrize("status", [400, 401, 408, 429, 500, 503, 520, 529])
def test_a_status_is_sent_once_and_the_work_is_not_done(http, sandbox, status):
    sandbox.faults([{"status": status, "headers": {"Retry-After": "2"}}])
    reply = http("POST", "/agent/tasks", START)
    assert (reply.status_code, reply.headers["retry-after"], list(reply.json())) == (status, "2", ["error"])
    assert sandbox.tasks() == []
    assert http("POST", "/agent/tasks", START).status_code == 200


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_is_sent_as_such(http, sandbox, status):
    sandbox.faults([{"status": status, "body": "not sent"}, {"status": status, "body_bytes": 10}])
    for _ in range(2):
        reply = http("GET", "/agent/tasks/x")
        assert (reply.status_code, reply.content) == (status, b"")
    assert http("GET", "/agent/tasks/x").status_code == 404


def test_a_body_is_sent_verbatim_as_html_with_status_200(http, sandbox):
    sandbox.faults([{"body": "<h1>Caf\u00e9 closed</h1>"}])
    reply = http("GET", "/agent/tasks/x")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html")
    assert reply.content.decode() == "<h1>Caf\u00e9 closed</h1>"


def test_a_body_may_have_another_status_and_type(http, sandbox):
    sandbox.faults(
        [{"body": '{"task_id": 5}', "status": 201, "headers": {"Content-Type": "application/json"}}]
    )
    reply = http("GET", "/agent/tasks/x")
    assert (reply.status_code, reply.headers["content-type"], reply.json()) == (
        201,
        "application/json",
        {"task_id": 5},
    )


def test_a_body_of_fifty_megabytes_is_sent(http, sandbox):
    sandbox.faults([{"body_bytes": 50_000_000, "status": 502}])
    reply = http("GET", "/agent/tasks/x", stream=True)
    assert (reply.status_code, reply.headers["content-length"]) == (502, "50000000")
    assert sum(len(piece) for piece in reply.iter_content(1_000_000)) == 50_000_000


def test_a_client_that_leaves_during_a_large_body_harms_nothing(http, sandbox):
    sandbox.faults([{"body_bytes": 50_000_000}])
    http("GET", "/agent/tasks/x", stream=True).close()
    assert http("GET", "/agent/tasks/x").status_code == 404


def test_a_delay_comes_before_the_work(http, sandbox):
    sandbox.faults([{"delay_seconds": 0.2}])
    before = time.monotonic()
    assert http("POST", "/agent/tasks", START).status_code == 200
    assert time.monotonic() - before >= 0.2
    request, task = sandbox.requests()[0], sandbox.tasks()[0]
    assert task["created_at"] - request["time"] >= 0.19


@pytest.mark.parametrize(("more", "status"), [({"status": 503}, 503), ({"body": "late"}, 200)])
def test_a_delay_may_be_followed_by_another_reply(http, sandbox, more, status):
    sandbox.faults([{"delay_seconds": 0.1, **more}])
    before = time.monotonic()
    assert http("POST", "/agent/tasks", START).status_code == status
    assert time.monotonic() - before >= 0.1
    assert sandbox.tasks() == []


def test_dropped_before_means_not_done(http, sandbox):
    sandbox.faults([{"drop": "before"}])
    with pytest.raises(requests.exceptions.ConnectionError):
        http("POST", "/agent/tasks", START)
    assert sandbox.tasks() == []
    assert [request["status"] for request in sandbox.requests()] == [None]


@pytest.mark.parametrize("path", ["/agent/tasks", "/agent/tasks/stream"])
def test_dropped_after_means_done_without_a_reply(http, sandbox, path):
    sandbox.faults([{"drop": "after"}])
    with pytest.raises(requests.exceptions.ConnectionError):
        http("POST", path, START)
    assert [task["times_started"] for task in sandbox.tasks()] == [1]
    assert [request["status"] for request in sandbox.requests()] == [None]


@pytest.mark.parametrize("path", ["/agent/tasks", "/agent/tasks/stream"])
def test_dropped_during_means_done_and_half_of_the_reply(http, sandbox, path):
    sandbox.faults([{"drop": "during"}])
    reply = http("POST", path, START, stream=True)
    received = b""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):  # noqa: PT012 - the pieces before it count
        for piece in reply.iter_content(1):
            received += piece
    assert reply.status_code == 200
    assert received.startswith((b'{"task_id"', b"data: "))
    assert [task["times_started"] for task in sandbox.tasks()] == [1]
    assert [request["status"] for request in sandbox.requests()] == [None]


def test_a_drop_may_come_after_a_delay(http, sandbox):
    sandbox.faults([{"delay_seconds": 0.1, "drop": "before"}])
    before = time.monotonic()
    with pytest.raises(requests.exceptions.ConnectionError):
        http("POST", "/agent/tasks", START)
    assert time.monotonic() - before >= 0.1


def test_a_drop_cuts_its_own_connection_only(http, sandbox):
    sandbox.faults([{"path": "/cut$", "drop": "before"}])
    with requests.Session() as other:
        other.get(f"{sandbox.url}/agent/tasks/x", timeout=10)
        with pytest.raises(requests.exceptions.ConnectionError):
            http("GET", "/agent/tasks/cut")
        assert other.get(f"{sandbox.url}/agent/tasks/x", timeout=10).status_code == 401


def test_rules_apply_by_method_and_path_the_given_number_of_times(http, sandbox):
    sandbox.faults([{"method": "post", "path": "/tasks$", "status": 503, "times": 2}])
    assert http("GET", "/agent/tasks/x").status_code == 404
    assert http("POST", "/agent/tasks/x/pause").status_code == 404
    assert [http("POST", "/agent/tasks", START).status_code for _ in range(3)] == [503, 503, 200]


def test_the_oldest_matching_rule_comes_first(http, sandbox):
    sandbox.faults([{"path": "nowhere", "status": 500}, {"path": "tasks", "status": 501}])
    sandbox.faults([{"status": 502}])
    assert [http("GET", "/agent/tasks/x").status_code for _ in range(3)] == [501, 502, 404]


def test_faults_come_before_the_key_is_looked_at(http, sandbox):
    sandbox.faults([{"status": 529}])
    assert http("GET", "/agent/tasks/x", headers={}).status_code == 529


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({}, "needs one of"),
        ({"path": "x"}, "needs one of"),
        ({"status": 99}, "status"),
        ({"status": 600}, "status"),
        ({"status": "500"}, "status"),
        ({"status": 500, "path": "("}, "regular expression"),
        ({"status": 500, "times": 0}, "times"),
        ({"status": 500, "headers": {"Content-Length": "5"}}, "Content-Length"),
        ({"status": 500, "headers": {"X": "a\r\nb"}}, "header"),
        ({"status": 500, "headers": {"X": 5}}, "headers"),
        ({"headers": {"X": "1"}, "drop": "before"}, "headers"),
        ({"body": 5}, "body"),
        ({"body": "x", "body_bytes": 5}, "body_bytes"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"drop": "sometimes"}, "drop"),
        ({"drop": "after", "status": 500}, "drop"),
        ({"status": 500, "tiems": 2}, "tiems"),
    ],
)
def test_a_wrong_rule_is_named_and_no_rule_of_the_list_is_used(http, sandbox, rule, named):
    with pytest.raises(AgentTaskArgumentError, match="rejected") as refusal:
        sandbox.faults([{"status": 500}, rule])
    assert named in str(refusal.value)
    assert http("GET", "/agent/tasks/x").status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b'{"status": 500}', b"5"])
def test_what_is_no_list_of_rules_is_refused(sandbox, body):
    reply = requests.post(f"{sandbox.url}/_sandbox/faults", data=body, timeout=10)
    assert (reply.status_code, list(reply.json())) == (422, ["error"])
