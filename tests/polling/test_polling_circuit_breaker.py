"""When the circuit breaker of one connection admits a request; the clock and the draw are the test's."""

from __future__ import annotations

import pytest

from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskCircuitOpenError,
    AgentTaskError,
    AgentTaskInsecureError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskReplyError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.lifecycle.wait_policy import LONGEST_WAIT
from airflow_agent_tasks.polling.circuit_breaker import (
    FAILURE_SECONDS,
    FAILURE_THRESHOLD,
    KEY_PROBE_INTERVAL,
    PROBE_INTERVAL,
    CircuitBreaker,
)

DOWN = AgentTaskUnavailableError("down", status=503)
WRONG_KEY = AgentTaskAuthenticationError("no such key", status=401)


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker(draw=lambda: 0.5)


def fail(breaker: CircuitBreaker, error: AgentTaskError, *, at: float, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.admit(now=at)
        breaker.on_error(error, sent_at=at, now=at)


def open_circuit(breaker: CircuitBreaker, *, at: float, error: AgentTaskError = DOWN) -> None:
    fail(breaker, error, at=at - FAILURE_SECONDS, times=FAILURE_THRESHOLD - 1)
    fail(breaker, error, at=at)


def test_a_new_circuit_is_closed(breaker: CircuitBreaker) -> None:
    assert breaker.admit(now=0.0)
    assert breaker.admit(now=0.0)


def test_failures_with_responses_in_between_do_not_open_the_circuit(breaker: CircuitBreaker) -> None:
    for second in range(100):
        fail(breaker, DOWN, at=float(second), times=FAILURE_THRESHOLD + 1)
        breaker.on_response(sent_at=float(second))
    assert breaker.admit(now=100.0)


def test_a_few_failures_do_not_open_the_circuit(breaker: CircuitBreaker) -> None:
    fail(breaker, DOWN, at=0.0)
    fail(breaker, DOWN, at=900.0, times=FAILURE_THRESHOLD - 2)
    assert breaker.admit(now=900.0)


def test_many_failures_within_a_moment_do_not_open_the_circuit(breaker: CircuitBreaker) -> None:
    fail(breaker, DOWN, at=0.0, times=100)
    fail(breaker, DOWN, at=FAILURE_SECONDS - 0.1, times=100)
    assert breaker.admit(now=FAILURE_SECONDS)


@pytest.mark.parametrize(
    "error",
    [DOWN, AgentTaskReplyError("a proxy's page", transient=True), AgentTaskInsecureError("expired")],
)
def test_a_service_that_answers_nobody_opens_the_circuit(
    breaker: CircuitBreaker, error: AgentTaskError
) -> None:
    open_circuit(breaker, at=100.0, error=error)
    assert not breaker.admit(now=100.25)
    rejection = breaker.build_rejection(now=100.25)
    assert isinstance(rejection, AgentTaskCircuitOpenError)
    assert rejection.is_transient
    # The error of one task does not belong in the log of another.
    assert str(error) not in str(rejection)
    # What is left of the pause, and half of it more, since the draw says a half.
    assert rejection.retry_after == 0.75 * PROBE_INTERVAL + 0.5 * PROBE_INTERVAL


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (AgentTaskRateLimitedError("slow down", status=429), 1.0),
        (AgentTaskRateLimitedError("slow down", status=429, retry_after=90.0), 90.0),
        (AgentTaskUnavailableError("soon", status=503, retry_after=12.0), 12.0),
        (AgentTaskUnavailableError("soon", status=503, retry_after=0.0), 1.0),
    ],
)
def test_a_pause_that_the_service_asks_for_begins_at_once(
    breaker: CircuitBreaker, error: AgentTaskError, seconds: float
) -> None:
    fail(breaker, error, at=10.0)
    # A rejected task comes back before a long pause ends, for the connection may have been changed.
    assert breaker.build_rejection(now=10.0).retry_after == 1.5 * min(LONGEST_WAIT, seconds)
    assert not breaker.admit(now=10.0 + seconds - 0.1)
    assert breaker.admit(now=10.0 + seconds)


def test_one_probe_is_admitted_and_its_response_closes_the_circuit(breaker: CircuitBreaker) -> None:
    open_circuit(breaker, at=0.0)
    assert breaker.admit(now=1.0)
    assert not breaker.admit(now=1.0)
    breaker.on_response(sent_at=1.0)
    assert breaker.admit(now=1.1)
    assert breaker.admit(now=1.1)


def test_a_response_closes_the_circuit_however_long_it_took(breaker: CircuitBreaker) -> None:
    open_circuit(breaker, at=0.0)
    assert [breaker.admit(now=now) for now in (1.0, 2.0, 3.0)] == [True, True, True]
    breaker.on_response(sent_at=1.0)
    assert not breaker.is_open(now=3.1)


def test_a_response_closes_the_circuit_although_later_probes_failed_sooner(breaker: CircuitBreaker) -> None:
    open_circuit(breaker, at=0.0)
    assert [breaker.admit(now=now) for now in (1.0, 2.0, 3.0)] == [True, True, True]
    breaker.on_error(DOWN, sent_at=2.0, now=2.1)
    breaker.on_error(DOWN, sent_at=3.0, now=3.1)
    breaker.on_response(sent_at=1.0)
    assert not breaker.is_open(now=3.2)


def test_a_rejection_reports_for_how_long_nobody_was_answered(breaker: CircuitBreaker) -> None:
    open_circuit(breaker, at=100.0)
    breaker.on_error(AgentTaskUnavailableError("wait", retry_after=900.0), sent_at=101.0, now=107.0)
    for now in (107.0, 700.0):
        assert breaker.build_rejection(now=now).outage_seconds == FAILURE_SECONDS + 7.0
    breaker.on_response(sent_at=1007.0)
    open_circuit(breaker, at=2000.0)
    assert breaker.build_rejection(now=2000.0).outage_seconds == FAILURE_SECONDS


def test_a_probe_that_never_reports_back_is_followed_by_another(breaker: CircuitBreaker) -> None:
    open_circuit(breaker, at=0.0)
    assert [breaker.admit(now=now) for now in (1.0, 1.5, 2.0, 2.5)] == [True, False, True, False]


def test_repeated_429s_double_the_pause_up_to_the_longest(breaker: CircuitBreaker) -> None:
    now, lengths = 0.0, []
    slow_down = AgentTaskRateLimitedError("slow down", status=429)
    fail(breaker, slow_down, at=now)
    for _ in range(8):
        began = now
        while not breaker.admit(now=now):
            now += 0.5
        lengths.append(now - began)
        breaker.on_error(slow_down, sent_at=now, now=now)
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]
    breaker.on_response(sent_at=now)
    fail(breaker, slow_down, at=now)
    assert not breaker.admit(now=now + 0.9)
    assert breaker.admit(now=now + 1.0)


def test_many_failures_in_flight_count_as_one_round(breaker: CircuitBreaker) -> None:
    slow_down = AgentTaskRateLimitedError("slow down", status=429)
    news = [breaker.on_error(slow_down, sent_at=0.0, now=5.0 + number / 1000) for number in range(100)]
    assert news == [True] + [False] * 99
    assert breaker.admit(now=6.2)


@pytest.mark.parametrize("is_success", [True, False])
def test_a_response_to_an_earlier_request_does_not_close_the_circuit(
    breaker: CircuitBreaker, is_success: bool
) -> None:
    breaker.on_error(AgentTaskRateLimitedError("wait", status=429), sent_at=1.0, now=2.0)
    if is_success:
        breaker.on_response(sent_at=1.5)
    else:
        breaker.on_error(AgentTaskNotFoundError("who?", status=404), sent_at=1.5, now=2.5)
    assert not breaker.admit(now=2.5)


@pytest.mark.parametrize("status", [404, 422])
def test_an_error_of_one_task_is_a_response(breaker: CircuitBreaker, status: int) -> None:
    fail(breaker, DOWN, at=0.0, times=FAILURE_THRESHOLD)
    fail(breaker, AgentTaskNotFoundError("who?", status=status), at=1.0)
    fail(breaker, DOWN, at=FAILURE_SECONDS, times=FAILURE_THRESHOLD)
    assert breaker.admit(now=FAILURE_SECONDS)


def test_a_rejected_key_is_not_sent_again_for_a_while(breaker: CircuitBreaker) -> None:
    fail(breaker, WRONG_KEY, at=0.0)
    assert not breaker.admit(now=KEY_PROBE_INTERVAL - 0.1)
    rejection = breaker.build_rejection(now=1.0)
    # It was not sent for this task, so its wait continues; the key may be corrected.
    assert (rejection.is_transient, rejection.is_final, rejection.status) == (True, False, 401)
    assert "password field" in str(rejection)
    assert "no such key" not in str(rejection)
    # One probe sends it again, and nothing else does until that one is answered.
    assert breaker.admit(now=KEY_PROBE_INTERVAL)
    assert not breaker.admit(now=2 * KEY_PROBE_INTERVAL - 0.1)


def test_a_429_in_flight_does_not_shorten_the_pause_of_a_rejected_key(breaker: CircuitBreaker) -> None:
    breaker.on_error(WRONG_KEY, sent_at=0.0, now=1.0)
    breaker.on_error(AgentTaskRateLimitedError("slow down", status=429), sent_at=0.5, now=2.0)
    assert breaker.is_key_rejected
    assert not breaker.admit(now=KEY_PROBE_INTERVAL)
    assert breaker.admit(now=KEY_PROBE_INTERVAL + 2.0)


def test_a_wrong_key_is_sent_less_often_than_lightcone_blocks_for(breaker: CircuitBreaker) -> None:
    sent = [now for now in range(600) if breaker.admit(now=now) and fail_at(breaker, float(now))]
    # The worker that resumes after such a wait sends the key as well.
    assert 2 * len(sent) < 10


def fail_at(breaker: CircuitBreaker, now: float) -> bool:
    return breaker.on_error(WRONG_KEY, sent_at=now, now=now)


def test_a_403_concerns_one_task_only(breaker: CircuitBreaker) -> None:
    fail(breaker, AgentTaskAuthenticationError("not this one", status=403), at=0.0)
    assert breaker.admit(now=0.0)


def test_a_new_key_is_sent_by_one_probe_first() -> None:
    breaker = CircuitBreaker(half_open_since=5.0, draw=lambda: 1.0)
    assert breaker.admit(now=5.0)
    assert not breaker.admit(now=5.0)
    # The others retry soon.
    assert breaker.build_rejection(now=5.0).retry_after == 2 * PROBE_INTERVAL
    breaker.on_response(sent_at=5.0)
    assert breaker.admit(now=5.1)
    assert breaker.admit(now=5.1)


def test_a_circuit_is_closed_until_failures_open_it(breaker: CircuitBreaker) -> None:
    assert breaker.is_closed
    fail(breaker, WRONG_KEY, at=0.0)
    assert not breaker.is_closed
