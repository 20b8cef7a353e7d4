"""Every call of both hooks against the sandbox."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskAuthenticationError,
    AgentTaskConfigurationError,
    AgentTaskNotFoundError,
    AgentTaskNotSupportedError,
    AgentTaskRejectedError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import afind_hook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from airflow_agent_tasks.sandbox.server import Sandbox
from tests.raw_server import Exchange, RawServer, cut, head, reply

QUICK = '#sandbox {"steps": 2, "step_seconds": 0.05, "result": {"answer": 42}}\nWork.'
ENDLESS = '#sandbox {"steps": 1, "step_seconds": 1000}\nWork.'
ASKING = '#sandbox {"steps": 2, "step_seconds": 0.02, "ask": ["Which one?"]}\nWork.'
LONGEST_WAIT = 10.0


def start(hook: AgentTaskHook, instruction: str) -> AgentTask:
    return hook.start_task(**{hook.dialect.instruction_field: instruction})


def wait_for(hook: AgentTaskHook, task: AgentTask, *states: TaskState) -> AgentTask:
    deadline = time.monotonic() + LONGEST_WAIT
    while (seen := hook.get_task(task.task_id)).status not in states:
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(0.01)
    return seen


def test_a_task_is_started_and_watched_to_its_end(service: Any, agent_task_sandbox: Sandbox) -> None:
    hook = service.hook()
    task = start(hook, QUICK)
    assert (task.service, bool(task.task_id), task.is_terminal) == (service.name, True, False)
    ended = wait_for(hook, task, TaskState.COMPLETED)
    assert ended.task_id == task.task_id
    if service.name == "shinzo":
        assert (ended.agent_id, ended.result) == ("agt_sandbox", {"answer": 42})
        assert None not in (ended.created_at, ended.started_at, ended.completed_at)
    else:
        assert (ended.agent_id, ended.exit_code) == (None, 0)
    (known,) = agent_task_sandbox.tasks()
    assert known["times_started"] == 1


def test_a_question_is_answered_with_a_message(service: Any, agent_task_sandbox: Sandbox) -> None:
    hook = service.hook()
    task = start(hook, ASKING)
    asking = wait_for(hook, task, TaskState.AWAITING_INPUT)
    assert asking.question == "Which one?"
    answered = hook.send_message(task.task_id, "The first.")
    assert answered.task_id == task.task_id
    assert answered.status is TaskState.RUNNING
    assert [message["message"] for message in agent_task_sandbox.tasks()[0]["messages"]] == ["The first."]
    wait_for(hook, task, TaskState.COMPLETED)


def test_a_message_must_not_be_blank(service: Any, agent_task_sandbox: Sandbox) -> None:
    for message in ("", "  \n", None, 5):
        with pytest.raises(AgentTaskArgumentError, match="message must be a non-empty string"):
            service.hook().send_message("t1", message)
    assert agent_task_sandbox.requests() == []


def test_lightcone_pauses_and_resumes(agent_task_sandbox: Sandbox) -> None:
    hook = LightconeHook()
    task = start(hook, ENDLESS)
    assert hook.pause_task(task.task_id).status is TaskState.PAUSED
    assert hook.get_task(task.task_id).status is TaskState.PAUSED
    assert hook.resume_task(task.task_id).status is TaskState.RUNNING
    assert hook.stop_task(task.task_id).status is TaskState.PAUSED


def test_shinzo_cancels(agent_task_sandbox: Sandbox) -> None:
    hook = ShinzoHook()
    task, other = start(hook, ENDLESS), start(hook, ENDLESS)
    assert hook.cancel_task(task.task_id).status is TaskState.CANCELLED
    assert hook.stop_task(other.task_id).status is TaskState.CANCELLED
    assert hook.get_task(task.task_id).status is TaskState.CANCELLED


@pytest.mark.parametrize(
    ("hook_class", "call", "status"),
    [
        (LightconeHook, lambda hook, task_id: hook.send_message(task_id, "Hello?"), 409),
        (LightconeHook, lambda hook, task_id: hook.pause_task(task_id), 409),
        (LightconeHook, lambda hook, task_id: hook.resume_task(task_id), 409),
        (ShinzoHook, lambda hook, task_id: hook.send_message(task_id, "Hello?"), 400),
        (ShinzoHook, lambda hook, task_id: hook.cancel_task(task_id), 400),
    ],
)
def test_what_has_ended_is_not_acted_upon(
    hook_class: type[Any], call: Callable[[Any, str], Any], status: int, agent_task_sandbox: Sandbox
) -> None:
    hook = hook_class()
    task = start(hook, QUICK)
    wait_for(hook, task, TaskState.COMPLETED)
    with pytest.raises(AgentTaskRejectedError, match="has ended as completed") as caught:
        call(hook, task.task_id)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("hook_class", "call", "sentence"),
    [
        (LightconeHook, lambda hook: hook.cancel_task("t1"), "Lightcone has no cancel.* Pause the task"),
        (ShinzoHook, lambda hook: hook.pause_task("t1"), "Shinzo has no pause.* Cancel the task"),
        (ShinzoHook, lambda hook: hook.resume_task("t1"), "Shinzo has no resume.* with a message"),
        (ShinzoHook, lambda hook: hook.stream_task(message="Go."), "Shinzo has no stream.* poll its status"),
    ],
)
def test_what_a_service_cannot_do_is_refused_with_the_alternative(
    hook_class: type[Any], call: Callable[[Any], Any], sentence: str, agent_task_sandbox: Sandbox
) -> None:
    with pytest.raises(AgentTaskNotSupportedError, match=sentence) as caught:
        call(hook_class())
    assert caught.value.is_final
    assert agent_task_sandbox.requests() == []


@pytest.mark.parametrize("fields", [{}, {"instruktion": "Go."}, {"instruction": "Go.", "max_steps": 0}])
def test_a_wrong_start_is_refused_before_anything_is_sent(
    fields: dict[str, Any], agent_task_sandbox: Sandbox
) -> None:
    for call in (LightconeHook().start_task, LightconeHook().stream_task):
        with pytest.raises(AgentTaskArgumentError):
            call(**fields)
    assert agent_task_sandbox.requests() == []


def test_a_start_with_a_known_key_finds_the_same_task(agent_task_sandbox: Sandbox) -> None:
    hook = LightconeHook()
    first = hook.start_task(instruction=ENDLESS, idempotency_key="k1")
    second = hook.start_task(instruction=ENDLESS, idempotency_key="k1")
    assert (second.task_id, second.reused, first.reused) == (first.task_id, True, False)


def test_a_start_whose_response_is_lost_is_never_retried(service: Any, agent_task_sandbox: Sandbox) -> None:
    agent_task_sandbox.faults([{"method": "POST", "drop": "after"}])
    with pytest.raises(AgentTaskUncertainError, match="may have been carried out"):
        start(service.hook(), ENDLESS)
    assert len(agent_task_sandbox.tasks()) == 1


def test_a_start_with_a_key_survives_a_lost_response(agent_task_sandbox: Sandbox) -> None:
    agent_task_sandbox.faults([{"method": "POST", "drop": "after"}])
    task = LightconeHook().start_task(instruction=ENDLESS, idempotency_key="k1")
    assert task.reused
    (known,) = agent_task_sandbox.tasks()
    assert (known["task_id"], known["times_started"]) == (task.task_id, 1)


def test_the_events_of_a_task_are_streamed(agent_task_sandbox: Sandbox) -> None:
    script = '#sandbox {"steps": 2, "step_seconds": 0.02, "events": [{"type": "screenshots", "n": 1}]}'
    events = list(LightconeHook().stream_task(instruction=script))
    kinds = [event["type"] for event in events]
    assert kinds[0] == "progress_update"
    assert kinds[-2:] == ["screenshots", "completion"]
    assert events[-1]["exit_code"] == 0


def test_an_event_arrives_while_the_task_runs(agent_task_sandbox: Sandbox) -> None:
    events = LightconeHook().stream_task(instruction=ENDLESS)
    first = next(events)
    assert first["type"] == "progress_update"
    assert agent_task_sandbox.tasks()[0]["ended_at"] is None
    events.close()


def test_leaving_a_stream_early_closes_its_connection(serve: Any, hook_for: Any) -> None:
    def tell(exchange: Exchange) -> None:
        exchange.send(head(kind="text/event-stream") + b'data: {"type": "a"}\n\ndata: {"type": "b"}\n\n')
        exchange.pause()

    server: RawServer = serve(tell)
    events = hook_for("lightcone", server).stream_task(instruction="Go.")
    assert next(events) == {"type": "a"}
    events.close()
    server.wait_until(lambda it: it.open_connections == 0)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (reply(401, {"error": "bad key"}), AgentTaskAuthenticationError),
        (reply(422, {"error": "bad field"}), AgentTaskRejectedError),
        (reply(502, "<html>", kind="text/html"), AgentTaskUncertainError),
        (cut(), AgentTaskUncertainError),
    ],
)
def test_a_stream_that_is_refused_raises(
    script: Any, error: type[Exception], serve: Any, hook_for: Any
) -> None:
    server = serve(script)
    with pytest.raises(error):
        next(hook_for("lightcone", server).stream_task(instruction="Go."))
    assert len(server.requests) == 1


def test_a_stream_that_is_cut_raises_after_its_events(serve: Any, hook_for: Any) -> None:
    server = serve(cut(head(kind="text/event-stream", content_length="999") + b'data: {"type": "a"}\n\n'))
    events = hook_for("lightcone", server).stream_task(instruction="Go.")
    assert next(events) == {"type": "a"}
    with pytest.raises(AgentTaskUncertainError, match="closed the connection"):
        next(events)


def test_a_good_connection_is_found_good(service: Any, agent_task_sandbox: Sandbox) -> None:
    is_good, sentence = service.hook().test_connection()
    assert is_good
    assert sentence == f"{service.hook_class.dialect.title} accepted the key."
    assert len(agent_task_sandbox.requests()) == 1
    assert agent_task_sandbox.tasks() == []


BAD_CONNECTIONS: dict[str, tuple[Any, str]] = {
    "wrong key": (reply(401, {"error": "unknown key"}), "401"),
    "no rights": (reply(403, {"error": "not yours"}), "403"),
    "HTML with 404": (
        reply(404, "<html>Not Found</html>", kind="text/html"),
        "is .* the address of the service?",
    ),
    "nothing with 404": (reply(404, b""), "is .* the address of the service?"),
    "HTML with 200": (
        reply(200, "<html>Welcome</html>", kind="text/html"),
        "is .* the address of the service?",
    ),
    "JSON with 200": (reply(200, {"status": "running"}), "is .* the address of the service?"),
    "HTML with 502": (reply(502, "<html>Bad Gateway</html>", kind="text/html"), "502"),
    "redirect": (reply(301, location="https://example.com/"), "Redirects are not followed"),
    "cut": (cut(), "closed the connection"),
}


@pytest.mark.parametrize("name", BAD_CONNECTIONS)
def test_a_bad_connection_is_found_bad_with_one_request(
    name: str, service: Any, serve: Any, hook_for: Any
) -> None:
    script, sentence = BAD_CONNECTIONS[name]
    server = serve(script)
    is_good, said = hook_for(service, server).test_connection()
    assert not is_good
    assert re.search(sentence, said), said
    assert len(server.requests) == 1


def test_a_connection_to_nowhere_is_found_bad(service: Any, serve: Any, hook_for: Any) -> None:
    server = serve()
    server.close()
    is_good, said = hook_for(service, server).test_connection()
    assert (is_good, "no connection to" in said) == (False, True)


def test_a_connection_that_cannot_be_used_is_found_bad(service: Any, connect: Any) -> None:
    is_good, said = service.hook("not_there").test_connection()
    assert not is_good
    assert said.startswith("The connection 'not_there' does not exist or could not be read.")
    connect("no_key", conn_type=service.name, password="")
    is_good, said = service.hook("no_key").test_connection()
    assert (is_good, "'no_key'" in said, "password" in said) == (False, True, True)


def test_airflows_own_test_of_a_connection_works(service: Any, agent_task_sandbox: Sandbox) -> None:
    from airflow.sdk import BaseHook

    is_good, sentence = BaseHook.get_connection(service.conn_id).test_connection()
    assert is_good, sentence


def test_the_state_is_read_on_an_event_loop(service: Any, agent_task_sandbox: Sandbox) -> None:
    task = start(service.hook(), ENDLESS)

    async def ask() -> AgentTask:
        hook = await afind_hook(service.conn_id)
        assert type(hook) is service.hook_class
        await hook.aopen()
        try:
            with pytest.raises(AgentTaskNotFoundError):
                await hook.aget_task("not_there", task.agent_id)
            return await hook.aget_task(task.task_id, task.agent_id)
        finally:
            await hook.aclose()

    state = ("service", "task_id", "agent_id", "status", "remote_status", "exit_code", "progress", "question")
    asked, expected = asyncio.run(ask()), service.hook().get_task(task.task_id)
    assert {name: getattr(asked, name) for name in state} == {name: getattr(expected, name) for name in state}


def test_shinzo_needs_an_agent(connect: Any) -> None:
    connect("shinzo_default", conn_type="shinzo")
    for call in (lambda hook: hook.start_task(message="Go."), lambda hook: hook.get_task("t1")):
        with pytest.raises(AgentTaskArgumentError, match=r"agent_id is required on Shinzo.*connection"):
            call(ShinzoHook())


def test_the_agent_of_the_call_comes_before_that_of_the_connection(agent_task_sandbox: Sandbox) -> None:
    hook = ShinzoHook()
    task = hook.start_task(agent_id="agt_other", message=ENDLESS)
    assert task.agent_id == "agt_other"
    assert hook.get_task(task.task_id, "agt_other").agent_id == "agt_other"
    with pytest.raises(AgentTaskNotFoundError):
        hook.get_task(task.task_id)
    assert start(hook, ENDLESS).agent_id == "agt_sandbox"


def test_the_client_is_made_once(service: Any, agent_task_sandbox: Sandbox) -> None:
    hook = service.hook()
    assert hook.get_conn() is hook.get_conn()


def test_a_connection_is_not_looked_up_before_it_is_needed(service: Any) -> None:
    hook = service.hook("not_there")
    with pytest.raises(AgentTaskConfigurationError, match="'not_there' does not exist"):
        hook.get_conn()


def test_a_stop_does_not_read_the_result(service: Any, serve: Any, hook_for: Any) -> None:
    ended = {"status": "completed", "exit_code": 0, "result": [[1]]}
    hook = hook_for(service, serve(reply(200, ended)))
    assert hook.stop_task("t1").result is None
    assert hook.get_task("t1", has_result=False).result is None
    assert hook.get_task("t1").result == [[1]]
