from __future__ import annotations

import json
import threading

import pytest
import requests


def test_the_stream_sends_each_step_once_and_then_the_completion(lightcone, scripted):
    events = list(lightcone.agent.tasks.start_stream(instruction=scripted(steps=3, result={"a": 1})))
    task_id = events[0]["task_id"]
    assert [event["type"] for event in events] == ["progress_update"] * 3 + ["completion"]
    assert [event["steps_completed"] for event in events[:-1]] == [0, 1, 2]
    assert events[-1] == {
        "type": "completion",
        "task_id": task_id,
        "status": "completed",
        "exit_code": 0,
        "result": {"a": 1},
    }


def test_a_streamed_task_is_started_once_and_seen_by_its_status(lightcone, sandbox, scripted):
    stream = lightcone.agent.tasks.start_stream(instruction=scripted(step_seconds=60))
    task_id = next(stream)["task_id"]
    assert lightcone.agent.tasks.retrieve_status(task_id).status == "running"
    assert [(task["task_id"], task["times_started"]) for task in sandbox.tasks()] == [(task_id, 1)]
    stream.close()


def test_a_stream_with_a_known_idempotency_key_follows_the_running_task(lightcone, sandbox, scripted):
    task_id = lightcone.agent.tasks.start(instruction=scripted(), idempotency_key="k").task_id
    events = list(lightcone.agent.tasks.start_stream(instruction=scripted(), idempotency_key="k"))
    assert {event["task_id"] for event in events} == {task_id}
    assert [task["times_started"] for task in sandbox.tasks()] == [1]


def test_scripted_events_come_before_the_completion(lightcone, scripted):
    shots = [
        {"type": "screenshots", "urls": ["https://example.com/1.png"]},
        {"type": "made_up", "deep": {"a": [1]}},
    ]
    events = list(lightcone.agent.tasks.start_stream(instruction=scripted(steps=1, events=shots)))
    assert events[-3:-1] == shots
    assert events[-1]["type"] == "completion"


def test_a_failed_task_sends_an_error_before_the_completion(lightcone, scripted):
    events = list(lightcone.agent.tasks.start_stream(instruction=scripted(steps=1, exit_code=4)))
    assert [event["type"] for event in events[-2:]] == ["error", "completion"]
    assert "exit code 4" in events[-2]["message"]
    assert (events[-1]["status"], events[-1]["exit_code"]) == ("failed", 4)


def test_questions_and_pauses_are_sent_when_they_happen(lightcone, scripted):
    stream = lightcone.agent.tasks.start_stream(
        instruction=scripted(steps=2, step_seconds=0.3, ask=["Which?"])
    )
    seen = []
    for event in stream:
        word = event["status"]
        if word == "awaiting_input":
            assert event["question"] == "Which?"
            lightcone.agent.tasks.pause(event["task_id"])
        elif word == "paused":
            lightcone.agent.tasks.inject_message(event["task_id"], message="This.")
            lightcone.agent.tasks.resume(event["task_id"])
        if not seen or seen[-1] != word:
            seen.append(word)
    assert seen == ["running", "awaiting_input", "paused", "running", "completed"]


def test_streams_and_slow_requests_do_not_block_others(lightcone, http, sandbox, scripted):
    sandbox.faults([{"path": "/slow$", "delay_seconds": 60, "times": 20}])
    streams = [lightcone.agent.tasks.start_stream(instruction=scripted(step_seconds=60)) for _ in range(10)]
    slow = [threading.Thread(target=_ask_and_give_up, args=(f"{sandbox.url}/slow",)) for _ in range(20)]
    for thread in slow:
        thread.start()
    assert http("GET", "/agent/tasks/x", timeout=10).status_code == 404
    for stream in streams:
        assert next(stream)["status"] == "running"
        stream.close()
    for thread in slow:
        thread.join()


def _ask_and_give_up(url: str) -> None:
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(url, timeout=0.3)


def test_the_wire_holds_data_lines_and_blank_lines_only(http, scripted):
    reply = http("POST", "/agent/tasks/stream", {"instruction": scripted(steps=2, ask=[])})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.text.endswith("\n\n")
    events = reply.text.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    assert all("type" in json.loads(event.removeprefix("data: ")) for event in events)


def test_forgetting_ends_the_streams(lightcone, sandbox, scripted):
    stream = lightcone.agent.tasks.start_stream(instruction=scripted(step_seconds=60))
    next(stream)
    sandbox.forget()
    assert [event["status"] for event in stream if event["type"] == "completion"] == ["cancelled"]


def test_a_client_that_leaves_does_not_end_the_task(lightcone, scripted, wait_until):
    stream = lightcone.agent.tasks.start_stream(instruction=scripted())
    task_id = next(stream)["task_id"]
    stream.close()
    wait_until(lambda: lightcone.agent.tasks.retrieve_status(task_id).status == "completed")
