"""What each HTTP status says: only one that says "not executed" lets a start be forgotten or sent again."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from tenacity import Future, RetryCallState, Retrying

from airflow_agent_tasks.client.retry_policy import RetryPolicy
from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskRejectedError,
    AgentTaskRequestError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.services.base import Capability
from airflow_agent_tasks.services.http import Request, Response
from airflow_agent_tasks.services.status_meaning import Executed, read_meaning
from tests.service_samples import (
    AGENT_ID,
    DIALECTS,
    LIGHTCONE,
    NOW,
    SHINZO,
    TASK_ID,
    build_message,
    build_start,
    build_status,
    build_stop,
    json_reply,
    parse_task,
)

#: More than HTTP allows, because services and proxies do not keep to it.
STATUSES = [0, 1, 99, *range(100, 1000), 1000, 10_000, -1]
SUCCESSES = range(200, 300)
#: The services document 503 as "not available"; the others say it themselves.
NOT_NOW = {408, 425, 429, 503}
REGISTERED = {status.value for status in HTTPStatus if 400 <= status < 500}
NOT_EXECUTED = REGISTERED | NOT_NOW

KINDS = {
    401: AgentTaskAuthenticationError,
    403: AgentTaskAuthenticationError,
    404: AgentTaskNotFoundError,
    429: AgentTaskRateLimitedError,
}

REQUESTS: dict[str, Request] = {
    "status": build_status(LIGHTCONE),
    "start without a key": build_start(SHINZO),
    "start with a key": build_start(LIGHTCONE, idempotency_key="k1"),
    "message": build_message(LIGHTCONE),
    "pause": build_stop(LIGHTCONE),
    "resume": LIGHTCONE.build_action(Capability.RESUME, TASK_ID, AGENT_ID),
    "cancel": build_stop(SHINZO),
}
WITH_EFFECT = ["start without a key", "start with a key", "message"]
IS_SENT_AGAIN_IN_DOUBT = {name: name not in ("start without a key", "message") for name in REQUESTS}


def test_every_status_has_its_place_in_the_table() -> None:
    for status in STATUSES:
        executed = read_meaning(status).executed
        if status in SUCCESSES:
            assert executed is Executed.YES, status
        else:
            assert executed is (Executed.NO if status in NOT_EXECUTED else Executed.MAYBE), status


def test_what_may_pass_is_worth_another_attempt() -> None:
    definite = {status for status in STATUSES if not read_meaning(status).is_transient}
    assert definite == {*SUCCESSES, *range(300, 400), *(REGISTERED - NOT_NOW)}


@pytest.mark.parametrize("name", REQUESTS)
def test_each_call_has_the_error_of_each_status(name: str) -> None:
    for status in set(STATUSES) - set(SUCCESSES):
        request = REQUESTS[name]
        with pytest.raises(AgentTaskRequestError) as caught:
            parse_task(LIGHTCONE, json_reply({}, status), request)
        error, meaning = caught.value, read_meaning(status)
        if name in WITH_EFFECT and meaning.executed is Executed.MAYBE:
            expected: type[AgentTaskRequestError] = AgentTaskUncertainError
        else:
            expected = AgentTaskUnavailableError if meaning.is_transient else AgentTaskRejectedError
        assert type(error) is KINDS.get(status, expected), status
        assert error.status == status


@pytest.mark.parametrize("service", DIALECTS)
def test_a_start_is_forgotten_only_if_it_was_not_executed(service: str) -> None:
    dialect = DIALECTS[service]
    for status in STATUSES:
        for body in (b"", b'{"task_id": ".."}', b'{"task_id": ""}', b"<html>", b"{"):
            with pytest.raises(AgentTaskRequestError) as caught:
                dialect.parse_started(
                    build_start(dialect), Response(status, {}, body), agent_id=AGENT_ID, now=NOW
                )
            is_uncertain = isinstance(caught.value, AgentTaskUncertainError)
            assert is_uncertain is (status not in NOT_EXECUTED), (status, body)


def is_sent_again(policy: RetryPolicy, outcome: Response | Exception) -> bool:
    state = RetryCallState(Retrying(), None, (), {})
    state.outcome = Future(attempt_number=1)
    if isinstance(outcome, Exception):
        state.outcome.set_exception(outcome)
    else:
        state.outcome.set_result(outcome)
    answer: bool = policy.options()["retry"](state)
    return answer


@pytest.mark.parametrize("name", REQUESTS)
def test_what_may_have_been_executed_is_sent_again_only_if_that_does_no_harm(name: str) -> None:
    for status in STATUSES:
        meaning = read_meaning(status)
        expected = meaning.is_transient and (meaning.executed is Executed.NO or IS_SENT_AGAIN_IN_DOUBT[name])
        assert is_sent_again(RetryPolicy(REQUESTS[name]), Response(status)) is expected, status


@pytest.mark.parametrize("name", WITH_EFFECT)
def test_a_doubt_outlasts_a_later_rejection(name: str) -> None:
    for first in STATUSES:
        policy = RetryPolicy(REQUESTS[name])
        is_sent_again(policy, Response(first))
        is_doubtful = read_meaning(first).executed is Executed.MAYBE
        for last in NOT_EXECUTED:
            if is_doubtful:
                with pytest.raises(AgentTaskUncertainError):
                    policy.finish(Response(last))
            else:
                assert policy.finish(Response(last)).status == last
        if is_doubtful:
            with pytest.raises(AgentTaskUncertainError):
                policy.finish_with_error(AgentTaskUnavailableError("no connection"))
        assert policy.finish(Response(200)).status == 200
