"""Streams that are cut, that stall, and that end too early; and streams of a task that runs already."""

from __future__ import annotations

import json
import time

import httpx
import pytest
import requests

from airflow_agent_tasks.sandbox.server import Sandbox

QUICK = {"steps": 3, "step_seconds": 0.01}
#: Four events: three steps and the completion.
KINDS = ["progress_update", "progress_update", "progress_update", "completion"]


@pytest.fixture
def read(http):
    """Return a function that streams a task until the stream breaks, and returns the bytes and the error."""

    def read(path="/agent/tasks/stream", timeout=10, **fields):
        received, error = b"", None
        reply = http("POST", path, {"instruction": "Work.", **fields}, stream=True, timeout=timeout)
        assert reply.status_code == 200
        try:
            for piece in reply.iter_content(1):
                received += piece
        except requests.exceptions.RequestException as exc:
            error = exc
        return received, error

    return read


def kinds_of(received: bytes) -> list[str]:
    whole = received.split(b"\n\n")[:-1]
    return [json.loads(frame.removeprefix(b"data: "))["type"] for frame in whole]


@pytest.fixture
def assert_completed(sandbox, wait_until):
    """Return a function that checks that there is one task, and that it ends as scripted."""

    def check():
        wait_until(lambda: sandbox.tasks()[0]["ended_at"])
        assert [(task["status"], task["steps_completed"]) for task in sandbox.tasks()] == [("completed", 3)]

    return check


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("half", [0, 0.5])
def test_a_cut_comes_after_the_given_events(read, sandbox, assert_completed, count, half):
    sandbox.script(**QUICK, stream={"cut_after": count + half})
    received, error = read()
    assert isinstance(error, requests.exceptions.ChunkedEncodingError)
    assert kinds_of(received) == KINDS[:count]
    rest = received.split(b"\n\n")[-1]
    assert rest.startswith(b'data: {"type"') if half else rest == b""
    assert_completed()


def test_a_cut_comes_at_once_and_not_with_the_next_event(read, sandbox):
    sandbox.script(step_seconds=60, stream={"cut_after": 1})
    received, error = read()
    assert isinstance(error, requests.exceptions.ChunkedEncodingError)
    assert kinds_of(received) == KINDS[:1]
    assert sandbox.tasks()[0]["status"] == "running"


def test_a_cut_may_come_instead_of_the_completion(read, sandbox, assert_completed):
    sandbox.script(**QUICK, stream={"cut_before_completion": True}, events=[{"type": "completion"}])
    received, error = read()
    assert isinstance(error, requests.exceptions.ChunkedEncodingError)
    assert kinds_of(received) == KINDS
    assert b'"exit_code"' not in received
    assert_completed()


def test_a_stream_may_end_in_order_without_a_completion(read, sandbox, assert_completed):
    sandbox.script(**QUICK, stream={"omit_completion": True})
    received, error = read()
    assert (kinds_of(received), error) == (KINDS[:3], None)
    assert_completed()


@pytest.mark.parametrize("count", [0, 2])
def test_a_stalled_stream_stays_open_until_the_client_leaves(read, sandbox, assert_completed, count):
    sandbox.script(**QUICK, stream={"stall_after": count})
    received, error = read(timeout=0.5)
    assert isinstance(error, requests.exceptions.ConnectionError)
    assert "Read timed out" in str(error)
    assert kinds_of(received) == KINDS[:count]
    assert_completed()


def test_a_stream_that_ends_before_the_fault_is_whole(read, sandbox):
    sandbox.script(**QUICK, stream={"cut_after": 4.5})
    received, error = read()
    assert (kinds_of(received), error) == (KINDS, None)


@pytest.mark.parametrize("fault", [{"cut_after": 2}, {"cut_after": 2.5}, {"cut_before_completion": True}])
def test_the_official_sdk_sees_a_broken_connection(lightcone, sandbox, fault):
    sandbox.script(**QUICK, stream=fault)
    seen = []
    with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - the events before it count
        for event in lightcone.agent.tasks.start_stream(instruction="Work."):
            seen.append(event["type"])
    assert seen == KINDS[: 2 if "cut_after" in fault else 3]


def test_the_official_sdk_reads_a_stream_without_a_completion(lightcone, sandbox):
    sandbox.script(**QUICK, stream={"omit_completion": True})
    events = list(lightcone.agent.tasks.start_stream(instruction="Work."))
    assert [event["type"] for event in events] == KINDS[:3]


def test_a_cut_leaves_other_streams_alone(lightcone, read, sandbox):
    sandbox.script(steps=3, step_seconds=0.2)
    whole = lightcone.agent.tasks.start_stream(instruction="Work.")
    assert next(whole)["type"] == KINDS[0]
    sandbox.script(**QUICK, stream={"cut_after": 0})
    assert read()[1] is not None
    assert [event["type"] for event in whole] == KINDS[1:]


def test_a_sandbox_stops_at_once_with_stalled_streams():
    with Sandbox() as sandbox, requests.Session() as session:
        session.trust_env = False
        sandbox.script(stream={"stall_after": 1})
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        url = f"{sandbox.url}/agent/tasks/stream"
        streams = [
            session.post(url, json={"instruction": "Work."}, headers=headers, stream=True, timeout=10)
            for _ in range(3)
        ]
        for stream in streams:
            assert next(stream.iter_content(1)) == b"d"
        before = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - before < 1.5


WORK = {"tool_calls": ["a", "b", "c"], "screenshots": 3}


def test_a_stream_with_a_known_key_begins_with_the_current_step(lightcone, http, sandbox, wait_until):
    sandbox.script(steps=3, step_seconds=0.3, **WORK)
    task_id = http.start(idempotency_key="k")["task_id"]
    wait_until(lambda: sandbox.tasks()[0]["steps_completed"] == 1)
    events = list(lightcone.agent.tasks.start_stream(instruction="Work.", idempotency_key="k"))
    assert {event["task_id"] for event in events} == {task_id}
    in_a_step = ["progress_update", "tool_call", "screenshots"]
    assert [event["type"] for event in events] == [*in_a_step, *in_a_step, "completion"]
    assert [event["name"] for event in events if event["type"] == "tool_call"] == ["b", "c"]
    (task,) = sandbox.tasks()
    assert (task["times_started"], task["times_reused"]) == (1, 1)


def test_a_stream_with_the_key_of_a_task_that_has_ended_is_its_completion(
    lightcone, http, sandbox, wait_until
):
    sandbox.script(**QUICK, **WORK, exit_code=3)
    http.start(idempotency_key="k")
    wait_until(lambda: sandbox.tasks()[0]["ended_at"])
    events = list(lightcone.agent.tasks.start_stream(instruction="Work.", idempotency_key="k"))
    assert [event["type"] for event in events] == ["error", "completion"]


def test_a_task_can_be_streamed_again_after_a_cut(lightcone, read, sandbox):
    sandbox.script(steps=3, step_seconds=0.3, stream={"cut_after": 3})
    first, _ = read(idempotency_key="k")
    second, _ = read(idempotency_key="k")
    assert kinds_of(first) == KINDS[:3]
    assert kinds_of(second) == ["progress_update", "completion"]
    assert len(sandbox.tasks()) == 1
