"""The Lightcone half, called with the official SDK wherever possible."""

from __future__ import annotations

import asyncio
import threading

import pytest
import requests
import tzafon
from tzafon import AsyncLightcone, Lightcone

EVERY_FIELD = {
    "kind": "browser",
    "agent_type": "legacy",
    "model": "some-model",
    "temperature": 1,
    "max_steps": 50,
    "environment_id": "env_1",
    "persistent": True,
    "screenshot_mode": "base64",
    "viewport_width": 1280,
    "viewport_height": 720,
    "idempotency_key": "key-of-every-field",
    "max_duration_seconds": 600,
    "metadata": {"dag": "d"},
    "start_url": "https://example.com",
    "system_prompt": "Be brief.",
    "context": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}],
    "computer_id": "cmp_1",
    "on_missing_computer": "create_new",
    "keep_alive": False,
    "terminate_on_completion": True,
    "save_session": False,
    "harness_version": "v2",
    "stream_mode": "concise",
    "stream_deltas": False,
    "thread_id": "t",
    "agent_icon": "robot",
}


def test_a_task_runs_to_its_end(lightcone, scripted, wait_until):
    started = lightcone.agent.tasks.start(instruction=scripted(step_seconds=0.2))
    assert started.status == "running"
    assert lightcone.agent.tasks.retrieve_status(started.task_id).exit_code is None
    ended = wait_until(
        lambda: (s := lightcone.agent.tasks.retrieve_status(started.task_id)).exit_code == 0 and s
    )
    assert (ended.task_id, ended.status) == (started.task_id, "completed")


def test_the_start_reply_has_the_key_only_when_one_was_given(http):
    assert set(http.start()) == {"task_id", "status"}
    assert set(http.start(idempotency_key="k")) == {"task_id", "status", "idempotency_key", "reused"}


def test_the_status_has_no_result_and_an_exit_code_only_at_the_end(http, scripted, wait_until):
    task_id = http.start(scripted(step_seconds=0.2, result={"a": 1}, exit_code=7))["task_id"]
    seen = [http("GET", f"/agent/tasks/{task_id}").json()]
    wait_until(lambda: seen.append(http("GET", f"/agent/tasks/{task_id}").json()) or "exit_code" in seen[-1])
    assert seen[0] == {"task_id": task_id, "status": "running"}
    assert seen[-1] == {"task_id": task_id, "status": "failed", "exit_code": 7}


def test_a_queued_task_has_the_status_queued(lightcone, scripted):
    assert lightcone.agent.tasks.start(instruction=scripted(queued_seconds=60)).status == "queued"


def test_every_start_field_of_the_sdk_is_taken_and_kept(lightcone, sandbox):
    lightcone.agent.tasks.start(instruction="Work.", **EVERY_FIELD)
    assert sandbox.tasks()[0]["request"] == {"instruction": "Work.", **EVERY_FIELD}


def test_null_means_not_given_and_unknown_fields_are_ignored(http):
    http.start(**dict.fromkeys(EVERY_FIELD), not_a_field=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instruction", None),
        ("instruction", "  "),
        ("instruction", 5),
        ("instruction", '#sandbox {"stepps": 1}'),
        ("kind", "phone"),
        ("agent_type", 1),
        ("model", 1),
        ("temperature", "hot"),
        ("max_steps", 1.5),
        ("max_steps", True),
        ("max_steps", 0),
        ("environment_id", 1),
        ("persistent", "yes"),
        ("screenshot_mode", "png"),
        ("viewport_width", "wide"),
        ("viewport_height", -1),
        ("idempotency_key", 1),
        ("max_duration_seconds", "1h"),
        ("metadata", {"number": 1}),
        ("start_url", 1),
        ("system_prompt", []),
        ("context", [{"role": "robot", "content": "x"}]),
        ("context", [{"role": "user"}]),
        ("computer_id", 1),
        ("on_missing_computer", "cry"),
        ("keep_alive", 1),
        ("terminate_on_completion", "no"),
        ("save_session", 0),
        ("harness_version", "v3"),
        ("stream_mode", "loud"),
        ("stream_deltas", "x"),
        ("thread_id", 1),
        ("agent_icon", 1),
    ],
)
@pytest.mark.parametrize("path", ["/agent/tasks", "/agent/tasks/stream"])
def test_a_wrong_field_is_named_and_nothing_is_started(http, sandbox, path, field, value):
    reply = http("POST", path, {"instruction": "Work.", field: value})
    assert reply.status_code == 422
    assert ("stepps" if "#sandbox" in str(value) else field) in reply.json()["error"]
    assert sandbox.tasks() == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b"\xff", b'{"temperature": NaN}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_is_refused(http, body):
    reply = http("POST", "/agent/tasks", data=body)
    assert reply.status_code == 422
    assert "JSON" in reply.json()["error"]


def test_an_instruction_is_required_by_name(http):
    reply = http("POST", "/agent/tasks", {})
    assert (reply.status_code, reply.json()) == (422, {"error": "instruction: required, but missing"})


def test_the_same_idempotency_key_finds_the_same_task(lightcone, sandbox, scripted):
    first = lightcone.agent.tasks.start(instruction=scripted(), idempotency_key="one")
    again = lightcone.agent.tasks.start(instruction=scripted(), idempotency_key="one")
    other = lightcone.agent.tasks.start(instruction=scripted(), idempotency_key="two")
    assert (first.task_id, first.idempotency_key, first.reused) == (again.task_id, "one", False)
    assert (again.idempotency_key, again.reused) == ("one", True)
    assert (other.task_id != first.task_id, other.reused) == (True, False)
    seen = [
        (task["idempotency_key"], task["times_started"], task["times_reused"]) for task in sandbox.tasks()
    ]
    assert seen == [("one", 1, 1), ("two", 1, 0)]


def test_a_start_whose_reply_was_lost_is_found_again_by_its_key(lightcone, sandbox, scripted):
    sandbox.faults([{"method": "POST", "path": "^/agent/tasks$", "drop": "after"}])
    found = lightcone.agent.tasks.start(instruction=scripted(), idempotency_key="one")
    assert found.reused is True
    assert [task["times_started"] for task in sandbox.tasks()] == [1]


def test_a_question_is_asked_and_answered(lightcone, sandbox, scripted, wait_until):
    task_id = lightcone.agent.tasks.start(instruction=scripted(ask=["Which?", "Sure?"])).task_id
    for question, answer in (("Which?", "this"), ("Sure?", "yes")):
        asked = wait_until(
            lambda q=question: (s := http_status(lightcone, task_id)).get("question") == q and s
        )
        assert asked == {"task_id": task_id, "status": "awaiting_input", "question": question}
        lightcone.agent.tasks.inject_message(task_id, message=answer)
    wait_until(lambda: lightcone.agent.tasks.retrieve_status(task_id).status == "completed")
    assert [message["message"] for message in sandbox.tasks()[0]["messages"]] == ["this", "yes"]


def http_status(lightcone: Lightcone, task_id: str) -> dict:
    return lightcone.agent.tasks.with_raw_response.retrieve_status(task_id).http_response.json()


def test_messages_to_a_running_task_are_recorded_in_order(lightcone, sandbox, scripted):
    task_id = lightcone.agent.tasks.start(instruction=scripted(step_seconds=60)).task_id
    for text in ("one", "two", "drei \u00fc \U0001f916"):
        assert lightcone.agent.tasks.inject_message(task_id, message=text).status == "running"
    messages = sandbox.tasks()[0]["messages"]
    assert [message["message"] for message in messages] == ["one", "two", "drei \u00fc \U0001f916"]
    assert messages == sorted(messages, key=lambda message: message["time"])


def test_a_pause_stops_the_task_until_it_is_resumed(lightcone, sandbox, scripted, wait_until):
    task_id = lightcone.agent.tasks.start(instruction=scripted(steps=2, step_seconds=0.3)).task_id
    assert lightcone.agent.tasks.pause(task_id).status == "paused"
    paused_for = wait_a_moment_longer_than_the_task_would_take(sandbox)
    assert lightcone.agent.tasks.retrieve_status(task_id).status == "paused"
    assert lightcone.agent.tasks.resume(task_id).status == "running"
    wait_until(lambda: lightcone.agent.tasks.retrieve_status(task_id).status == "completed")
    task = sandbox.tasks()[0]
    assert task["ended_at"] - task["started_at"] >= 0.6 + paused_for


def wait_a_moment_longer_than_the_task_would_take(sandbox) -> float:
    threading.Event().wait(0.7)  # real time must pass here: that it changes nothing is what is tested
    return 0.69


@pytest.mark.parametrize("act", ["pause", "resume", "inject_message"])
def test_an_ended_task_takes_no_orders(lightcone, scripted, wait_until, act):
    task_id = lightcone.agent.tasks.start(instruction=scripted(step_seconds=0)).task_id
    more = {"message": "late"} if act == "inject_message" else {}
    with pytest.raises(tzafon.ConflictError, match="ended as completed"):
        getattr(lightcone.agent.tasks, act)(task_id, **more)


def test_an_order_to_an_ended_task_is_sent_once(lightcone, sandbox, scripted):
    task_id = lightcone.agent.tasks.start(instruction=scripted(step_seconds=0)).task_id
    with pytest.raises(tzafon.ConflictError):
        lightcone.agent.tasks.pause(task_id)
    assert [request["status"] for request in sandbox.requests()] == [200, 409]


@pytest.mark.parametrize("act", ["pause", "resume", "inject_message", "retrieve_status"])
def test_an_unknown_task_is_not_found(lightcone, act):
    more = {"message": "hello"} if act == "inject_message" else {}
    with pytest.raises(tzafon.NotFoundError, match="tsk_unknown"):
        getattr(lightcone.agent.tasks, act)("tsk_unknown", **more)


def test_a_shinzo_task_is_not_a_lightcone_task(http):
    task_id = http.submit()["task_id"]
    assert http("GET", f"/agent/tasks/{task_id}").status_code == 404


def test_an_empty_or_missing_message_is_refused(lightcone, http):
    task_id = lightcone.agent.tasks.start(instruction="Work.").task_id
    with pytest.raises(tzafon.UnprocessableEntityError, match="message"):
        lightcone.agent.tasks.inject_message(task_id, message="")
    assert http("POST", f"/agent/tasks/{task_id}/messages", {}).status_code == 422


def test_the_step_limit_makes_the_task_fail(lightcone, scripted, wait_until):
    task_id = lightcone.agent.tasks.start(instruction=scripted(steps=5), max_steps=2).task_id
    ended = wait_until(
        lambda: (s := lightcone.agent.tasks.retrieve_status(task_id)).exit_code is not None and s
    )
    assert (ended.status, ended.exit_code) == ("failed", 1)


def test_the_duration_limit_cancels_the_task(lightcone, scripted, wait_until):
    task_id = lightcone.agent.tasks.start(
        instruction=scripted(step_seconds=60), max_duration_seconds=1
    ).task_id
    ended = wait_until(
        lambda: (s := lightcone.agent.tasks.retrieve_status(task_id)).exit_code is not None and s
    )
    assert (ended.status, ended.exit_code) == ("cancelled", 1)


@pytest.mark.parametrize("key", ["sk_wrong", "sk_sandbo", "sk_sandboxx", "sk_s\u00e4ndbox".encode("latin-1")])
def test_a_wrong_key_is_refused(http, key):
    bearer = key if isinstance(key, bytes) else key.encode()
    for method, path in (
        ("POST", "/agent/tasks"),
        ("POST", "/agent/tasks/stream"),
        ("GET", "/agent/tasks/x"),
    ):
        reply = http(method, path, headers={"Authorization": b"Bearer " + bearer})
        assert (reply.status_code, list(reply.json())) == (401, ["error"])


@pytest.mark.parametrize("headers", [{}, {"Authorization": "sk_sandbox"}, {"x-shinzo-api-key": "sk_sandbox"}])
def test_a_key_in_the_wrong_place_is_refused(http, headers):
    assert http("GET", "/agent/tasks/x", headers=headers).status_code == 401


def test_the_sdk_sees_a_wrong_key_as_such(sandbox):
    with (
        Lightcone(api_key="sk_wrong", base_url=sandbox.url) as client,
        pytest.raises(tzafon.AuthenticationError),
    ):
        client.agent.tasks.start(instruction="Work.")


def test_the_sdk_waits_for_the_retry_after_of_a_429(lightcone, sandbox):
    sandbox.faults([{"path": "^/agent/tasks$", "status": 429, "headers": {"Retry-After": "1"}}])
    lightcone.agent.tasks.start(instruction="Work.")
    first, second = sandbox.requests()
    assert (first["status"], second["status"]) == (429, 200)
    assert second["time"] - first["time"] >= 1.0


def test_the_async_sdk_can_do_all_the_same(sandbox, scripted):
    async def scenario() -> None:
        async with AsyncLightcone(api_key=sandbox.api_key, base_url=sandbox.url) as client:
            tasks = client.agent.tasks
            started = await tasks.start(instruction=scripted(step_seconds=60), idempotency_key="k")
            again = await tasks.start(instruction=scripted(), idempotency_key="k")
            assert (again.task_id, again.reused) == (started.task_id, True)
            assert (await tasks.pause(started.task_id)).status == "paused"
            assert (await tasks.retrieve_status(started.task_id)).status == "paused"
            assert (await tasks.resume(started.task_id)).status == "running"
            assert (await tasks.inject_message(started.task_id, message="hello")).status == "running"
            events = [event async for event in await tasks.start_stream(instruction=scripted(steps=1))]
            assert [event["type"] for event in events] == ["progress_update", "completion"]
            with pytest.raises(tzafon.NotFoundError):
                await tasks.retrieve_status("tsk_unknown")
            with pytest.raises(tzafon.UnprocessableEntityError):
                await tasks.start(instruction="")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "path", ["/", "/agent", "/docs", "/openapi.json", "/agent/tasks/", "/agent/tasks/x/cancel"]
)
def test_what_the_service_does_not_have_is_not_found(sandbox, path):
    reply = requests.get(f"{sandbox.url}{path}", timeout=10)
    assert (reply.status_code, list(reply.json())) == (404, ["error"])


def test_a_body_over_ten_megabytes_is_refused(http, sandbox):
    reply = http("POST", "/agent/tasks", {"instruction": "x" * 30_000_000})
    assert (reply.status_code, "larger" in reply.json()["error"]) == (413, True)
    assert (sandbox.tasks(), [request["status"] for request in sandbox.requests()]) == ([], [413])


def test_broken_unicode_breaks_no_reply(http, sandbox):
    assert http("POST", "/agent/tasks", data=b'{"instruction": "\\ud800"}').status_code == 200
    assert http("POST", "/agent/tasks", data=b'{"instruction": "x", "kind": "\\ud800"}').status_code == 422
    assert sandbox.requests()[0]["body"] == sandbox.tasks()[0]["request"] == {"instruction": "\ud800"}
