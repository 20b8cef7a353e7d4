"""Requests: their paths, how ids are quoted, what may be repeated, and what a service cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskNotSupportedError
from airflow_agent_tasks.services.base import CallbackFields, Capability, Dialect
from airflow_agent_tasks.services.http import Request
from airflow_agent_tasks.text import shorten
from tests.service_samples import (
    AGENT_ID,
    DIALECTS,
    LIGHTCONE,
    SHINZO,
    TASK_ID,
    build_message,
    build_start,
    build_status,
    build_stop,
)

QUOTED_IDS = [
    ("tsk_xyz789abc123", "tsk_xyz789abc123"),
    ("a/b", "a%2Fb"),
    ("../../admin", "..%2F..%2Fadmin"),
    ("%2e%2e", "%252e%252e"),
    ("...", "..."),
    ("a\nb\r\0", "a%0Ab%0D%00"),
    ("a?b=c#d", "a%3Fb=c%23d"),
    ("a b;c", "a%20b;c"),
    ("größe", "gr%C3%B6%C3%9Fe"),
    ("🙂", "%F0%9F%99%82"),
    ("a\ud800", "a%3F"),
    ("x" * 256, "x" * 256),
]
NO_IDS = [None, "", " ", "\n", ".", "..", 7, 0, True, b"a", ["a"]]

#: The calls on a started task: path after the task's own, and what the request does.
ACTIONS = {
    ("lightcone", Capability.MESSAGE): ("messages", "send a message to agent task 'task_01'"),
    ("lightcone", Capability.PAUSE): ("pause", "pause agent task 'task_01'"),
    ("lightcone", Capability.RESUME): ("resume", "resume agent task 'task_01'"),
    ("shinzo", Capability.MESSAGE): ("message", "send a message to agent task 'task_01' of 'agt_01'"),
    ("shinzo", Capability.CANCEL): ("cancel", "cancel agent task 'task_01' of 'agt_01'"),
}


def build_any(dialect: Dialect, capability: Capability | None, task_id: Any, agent_id: Any) -> Request:
    if capability is None:
        return dialect.build_status(task_id, agent_id)
    message = "Go on." if capability is Capability.MESSAGE else None
    return dialect.build_action(capability, task_id, agent_id, message=message)


def path_of(service: str, task_id: str, agent_id: str = AGENT_ID) -> str:
    return f"/agent/tasks/{task_id}" if service == "lightcone" else f"/agent/{agent_id}/task/{task_id}"


def calls_of(service: str) -> list[tuple[Capability | None, str]]:
    actions = [(action, f"/{end}") for (owner, action), (end, _) in ACTIONS.items() if owner == service]
    return [(None, ""), *actions]


CALLS = [(service, capability, end) for service in DIALECTS for capability, end in calls_of(service)]


@pytest.mark.parametrize(("service", "capability", "end"), CALLS)
@pytest.mark.parametrize(("task_id", "quoted"), QUOTED_IDS)
def test_a_task_id_is_one_quoted_part_of_the_path(
    service: str, capability: Capability | None, end: str, task_id: str, quoted: str
) -> None:
    request = build_any(DIALECTS[service], capability, task_id, AGENT_ID)
    assert request.path == path_of(service, quoted) + end
    assert request.purpose.isprintable()


@pytest.mark.parametrize(("service", "capability", "end"), CALLS)
@pytest.mark.parametrize("task_id", NO_IDS, ids=repr)
def test_a_task_id_that_is_none_is_refused(
    service: str, capability: Capability | None, end: str, task_id: Any
) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        build_any(DIALECTS[service], capability, task_id, AGENT_ID)
    assert str(caught.value) == f"task_id must be a non-empty id, not {shorten(repr(task_id))}."


@pytest.mark.parametrize(("service", "capability", "end"), CALLS)
def test_a_task_id_that_is_too_long_is_refused_and_shortened(
    service: str, capability: Capability | None, end: str
) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        build_any(DIALECTS[service], capability, "x" * 257, AGENT_ID)
    assert str(caught.value) == f"task_id has 257 characters, more than 256: {shorten(repr('x' * 257), 60)}."


@pytest.mark.parametrize(("capability", "end"), calls_of("shinzo"))
@pytest.mark.parametrize(("agent_id", "quoted"), QUOTED_IDS)
def test_an_agent_id_is_one_quoted_part_of_the_path(
    capability: Capability | None, end: str, agent_id: str, quoted: str
) -> None:
    assert build_any(SHINZO, capability, TASK_ID, agent_id).path == path_of("shinzo", TASK_ID, quoted) + end
    assert SHINZO.build_start({"message": "a"}, agent_id=agent_id).path == f"/agent/request/{quoted}"


@pytest.mark.parametrize(("capability", "end"), calls_of("shinzo"))
@pytest.mark.parametrize("agent_id", [*NO_IDS, "x" * 257], ids=repr)
def test_an_agent_id_that_is_none_is_refused(capability: Capability | None, end: str, agent_id: Any) -> None:
    with pytest.raises(AgentTaskArgumentError, match=r"^agent_id "):
        build_any(SHINZO, capability, TASK_ID, agent_id)
    with pytest.raises(AgentTaskArgumentError, match=r"^agent_id "):
        SHINZO.build_start({"message": "a"}, agent_id=agent_id)


def test_a_missing_agent_id_is_refused_with_the_two_places_to_give_it() -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        SHINZO.build_start({"message": "a"})
    assert str(caught.value) == (
        "agent_id is required on Shinzo: pass it to the call, or set agent_id in the connection."
    )


@pytest.mark.parametrize("agent_id", [None, "", "agt_01", ".."])
def test_lightcone_has_no_agents_and_lets_an_agent_id_be(agent_id: str | None) -> None:
    assert LIGHTCONE.build_status(TASK_ID, agent_id).path == "/agent/tasks/task_01"
    assert LIGHTCONE.build_start({"instruction": "a"}, agent_id=agent_id).path == "/agent/tasks"


@pytest.mark.parametrize(("service", "capability"), ACTIONS)
def test_an_action_is_a_post_with_a_body_only_where_there_is_a_message(
    service: str, capability: Capability
) -> None:
    agent_id = AGENT_ID if service == "shinzo" else None
    request = build_any(DIALECTS[service], capability, TASK_ID, agent_id)
    assert (request.method, request.purpose) == ("POST", ACTIONS[service, capability][1])
    assert request.json == ({"message": "Go on."} if capability is Capability.MESSAGE else None)
    assert request.accept == "application/json"


@pytest.mark.parametrize(
    ("service", "purpose"),
    [("lightcone", "start an agent task"), ("shinzo", "submit a task to agent 'agt_01'")],
)
def test_a_start_has_its_purpose(service: str, purpose: str) -> None:
    request = build_start(DIALECTS[service])
    assert (request.method, request.purpose, request.accept) == ("POST", purpose, "application/json")


@pytest.mark.parametrize(
    ("service", "purpose"),
    [("lightcone", "get agent task 'task_01'"), ("shinzo", "get agent task 'task_01' of 'agt_01'")],
)
def test_a_status_request_has_its_purpose(service: str, purpose: str) -> None:
    agent_id = AGENT_ID if service == "shinzo" else None
    request = DIALECTS[service].build_status(TASK_ID, agent_id)
    assert (request.method, request.purpose, request.json) == ("GET", purpose, None)


def test_a_stream_is_a_start_that_accepts_events() -> None:
    request = LIGHTCONE.build_stream({"instruction": "a", "idempotency_key": "b"})
    assert (request.method, request.path) == ("POST", "/agent/tasks/stream")
    assert request.accept == "text/event-stream"
    assert request.json == {"instruction": "a", "idempotency_key": "b"}


@pytest.mark.parametrize(
    ("request_", "repeatable", "has_effect"),
    [
        pytest.param(build_start(LIGHTCONE), False, True, id="lightcone start"),
        pytest.param(
            build_start(LIGHTCONE, idempotency_key="a"), True, True, id="lightcone start with a key"
        ),
        pytest.param(
            LIGHTCONE.build_stream({"instruction": "a", "idempotency_key": "b"}), False, True, id="stream"
        ),
        pytest.param(build_start(SHINZO), False, True, id="shinzo start"),
        pytest.param(build_message(LIGHTCONE), False, True, id="lightcone message"),
        pytest.param(build_message(SHINZO), False, True, id="shinzo message"),
        pytest.param(build_status(LIGHTCONE), True, False, id="lightcone status"),
        pytest.param(build_status(SHINZO), True, False, id="shinzo status"),
        pytest.param(build_stop(LIGHTCONE), True, False, id="lightcone pause"),
        pytest.param(build_stop(SHINZO), True, False, id="shinzo cancel"),
        pytest.param(LIGHTCONE.build_action(Capability.RESUME, TASK_ID), True, False, id="lightcone resume"),
    ],
)
def test_what_starts_a_task_or_is_read_by_an_agent_is_not_repeated(
    request_: Request, repeatable: bool, has_effect: bool
) -> None:
    assert (request_.repeatable, request_.has_effect) == (repeatable, has_effect)


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("message", [None, "", "  ", "\n", 5, True, b"a", ["a"]], ids=repr)
def test_a_message_without_words_is_refused(service: str, message: Any) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        DIALECTS[service].build_action(Capability.MESSAGE, TASK_ID, AGENT_ID, message=message)
    assert str(caught.value) == f"message must be a non-empty string, not {shorten(repr(message))}."


@pytest.mark.parametrize("service", DIALECTS)
def test_the_call_that_stops_a_task_is_one_that_the_service_has(service: str) -> None:
    assert (service, DIALECTS[service].stop_capability) in ACTIONS


REFUSALS = {
    ("lightcone", Capability.CANCEL): "Lightcone has no cancel. Pause the task instead, and limit it from "
    "the start with max_steps and max_duration_seconds.",
    ("lightcone", Capability.CALLBACK): "Lightcone has no callback. Poll the task's status instead.",
    ("lightcone", Capability.PROGRESS): "Lightcone has no progress. Start the task with stream_task and read "
    "its progress_update events.",
    (
        "lightcone",
        Capability.AGENT_CHOICE,
    ): "Lightcone has no agent choice. Leave agent_id out; kind and model determine the agent.",
    ("shinzo", Capability.STREAM): "Shinzo has no stream. Submit the task and poll its status, which "
    "includes the progress.",
    ("shinzo", Capability.PAUSE): "Shinzo has no pause. Cancel the task instead, or send a message that "
    "asks the agent to wait.",
    ("shinzo", Capability.RESUME): "Shinzo has no resume. Shinzo tasks are never paused; reply to one that "
    "awaits input with a message.",
    ("shinzo", Capability.IDEMPOTENT_START): "Shinzo has no idempotent start. A submit without a response "
    "is not retried; check the service.",
    ("shinzo", Capability.EXIT_CODE): "Shinzo has no exit code. Use the status: completed or failed.",
}


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("capability", Capability)
def test_a_missing_capability_is_refused_with_the_service_and_the_alternative(
    service: str, capability: Capability
) -> None:
    dialect = DIALECTS[service]
    if (service, capability) not in REFUSALS:
        dialect.require(capability)
        return
    with pytest.raises(AgentTaskNotSupportedError) as caught:
        dialect.require(capability)
    assert str(caught.value) == REFUSALS[service, capability]
    assert caught.value.is_final


@pytest.mark.parametrize(
    ("service", "capability"),
    [("lightcone", Capability.CANCEL), ("shinzo", Capability.PAUSE), ("shinzo", Capability.RESUME)],
)
def test_an_action_that_the_service_lacks_is_refused_before_its_arguments_are_read(
    service: str, capability: Capability
) -> None:
    with pytest.raises(AgentTaskNotSupportedError):
        DIALECTS[service].build_action(capability, "..", None)


def test_a_stream_that_the_service_lacks_is_refused() -> None:
    with pytest.raises(AgentTaskNotSupportedError, match=r"^Shinzo has no stream"):
        SHINZO.build_stream({"message": "a"}, agent_id=AGENT_ID)


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("state", [state for state in TaskState if state is not TaskState.UNKNOWN])
def test_a_state_that_the_service_knows_may_be_waited_for(service: str, state: TaskState) -> None:
    if (service, state) != ("shinzo", TaskState.PAUSED):
        DIALECTS[service].check_states([state])


def test_states_that_the_service_never_has_are_refused_with_those_that_it_has() -> None:
    with pytest.raises(AgentTaskNotSupportedError) as caught:
        SHINZO.check_states({TaskState.UNKNOWN, TaskState.PAUSED})
    assert str(caught.value) == (
        "A Shinzo task is never paused or unknown; its states are "
        "awaiting_input, cancelled, completed, failed, queued, running."
    )


def test_one_possible_state_among_the_wanted_is_enough() -> None:
    SHINZO.check_states([TaskState.PAUSED, TaskState.COMPLETED])


class SomeoneElsesDialect(Dialect):
    """The least that a package of someone else has to write."""

    service = "other"
    title = "Other"
    default_base_url = "https://other.example"
    capabilities = Capability.STREAM
    start_fields = ()
    instruction_field = "prompt"
    states = {"done": TaskState.COMPLETED}  # noqa: RUF012
    stop_capability = Capability.CANCEL

    def build_start(self, fields: Mapping[str, Any], *, agent_id: str | None = None) -> Request:
        return Request("POST", "/runs", "start a run", json=self.check_start_fields(fields))

    def build_task_path(self, task_id: str, agent_id: str | None) -> str:
        return f"/runs/{task_id}"


def test_someone_elses_dialect_without_alternatives_refuses_in_one_sentence() -> None:
    with pytest.raises(AgentTaskNotSupportedError) as caught:
        SomeoneElsesDialect().build_action(Capability.CANCEL, TASK_ID)
    assert str(caught.value) == "Other has no cancel."


def test_someone_elses_dialect_has_no_stream_unless_it_builds_one() -> None:
    with pytest.raises(AgentTaskNotSupportedError, match="has no stream"):
        SomeoneElsesDialect().build_stream({})


def test_someone_elses_dialect_gets_its_status_request_from_its_path() -> None:
    assert SomeoneElsesDialect().build_status("run_1") == Request(
        "GET", "/runs/run_1", "get agent task 'run_1'"
    )


class CallingDialect(SomeoneElsesDialect):
    """A service of someone else that calls back."""

    capabilities = Capability.CALLBACK
    callback_fields = CallbackFields(url="notify_url", mode=("notify", "always"))


URL = "https://airflow.example/agent-tasks/callback/x"
OWN_URL = "https://example.com/done"


@pytest.mark.parametrize(
    ("dialect", "fields", "sent"),
    [
        (SHINZO, {"callback_mode": "webhook"}, {"callback_mode": "webhook", "webhook_url": URL}),
        (
            SHINZO,
            {"callback_mode": "webhook", "webhook_url": None},
            {"callback_mode": "webhook", "webhook_url": URL},
        ),
        (SHINZO, {"callback_mode": "webhook", "webhook_url": OWN_URL}, None),
        (SHINZO, {"callback_mode": "poll"}, None),
        (SHINZO, {"callback_mode": None}, None),
        (SHINZO, {"notify": "always"}, None),
        (SHINZO, {}, None),
        (LIGHTCONE, {"callback_mode": "webhook"}, None),
        (SomeoneElsesDialect(), {"callback_mode": "webhook"}, None),
        (CallingDialect(), {"notify": "always"}, {"notify": "always", "notify_url": URL}),
        (CallingDialect(), {"notify": "always", "notify_url": OWN_URL}, None),
        (CallingDialect(), {"callback_mode": "webhook"}, None),
    ],
)
def test_a_start_gets_the_url_of_a_callback_only_if_it_wants_one(
    dialect: Dialect, fields: dict[str, Any], sent: dict[str, Any] | None
) -> None:
    assert dialect.wants_callback(fields) is (sent is not None)
    put = dialect.put_callback_url(fields, URL)
    assert put == (sent or fields)
    assert put is not fields
    assert not dialect.wants_callback(put)


def test_fields_of_a_callback_are_not_used_without_the_capability() -> None:
    class SilentDialect(CallingDialect):
        capabilities = Capability.STREAM

    assert not SilentDialect().wants_callback({"notify": "always"})
