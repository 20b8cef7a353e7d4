"""When a service may be asked, for all who wait at one connection; the clock and the draw are the test's."""

from __future__ import annotations

import pytest

from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskError,
    AgentTaskHeldBackError,
    AgentTaskInsecureError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskReplyError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.lifecycle.wait_policy import LONGEST_WAIT
from airflow_agent_tasks.polling.circuit_breaker import (
    FAILURES_IN_A_ROW,
    KEY_PAUSE,
    PROBE_PAUSE,
    SECONDS_UNANSWERED,
    Silence,
)

DOWN = AgentTaskUnavailableError("down", status=503)
WRONG_KEY = AgentTaskAuthenticationError("no such key", status=401)


@pytest.fixture
def silence() -> Silence:
    return Silence(draw=lambda: 0.5)


def fail(silence: Silence, error: AgentTaskError, *, at: float, times: int = 1) -> None:
    for _ in range(times):
        assert silence.enter(now=at)
        silence.on_error(error, asked_at=at, now=at)


def fall_silent(silence: Silence, *, at: float, error: AgentTaskError = DOWN) -> None:
    fail(silence, error, at=at - SECONDS_UNANSWERED, times=FAILURES_IN_A_ROW - 1)
    fail(silence, error, at=at)


def test_nobody_is_held_back_at_first(silence: Silence) -> None:
    assert silence.enter(now=0.0)
    assert silence.enter(now=0.0)


def test_failures_with_answers_in_between_are_their_own_tasks_affair(silence: Silence) -> None:
    for second in range(100):
        fail(silence, DOWN, at=float(second), times=FAILURES_IN_A_ROW + 1)
        silence.on_answer(asked_at=float(second))
    assert silence.enter(now=100.0)


def test_a_few_failures_are_not_yet_the_services(silence: Silence) -> None:
    fail(silence, DOWN, at=0.0)
    fail(silence, DOWN, at=900.0, times=FAILURES_IN_A_ROW - 2)
    assert silence.enter(now=900.0)


def test_many_failures_in_a_moment_are_not_yet_the_services(silence: Silence) -> None:
    fail(silence, DOWN, at=0.0, times=100)
    fail(silence, DOWN, at=SECONDS_UNANSWERED - 0.1, times=100)
    assert silence.enter(now=SECONDS_UNANSWERED)


@pytest.mark.parametrize(
    "error",
    [DOWN, AgentTaskReplyError("a proxy's page", transient=True), AgentTaskInsecureError("expired")],
)
def test_a_service_that_answers_nobody_is_left_alone(silence: Silence, error: AgentTaskError) -> None:
    fall_silent(silence, at=100.0, error=error)
    assert not silence.enter(now=100.25)
    held_back = silence.refuse(now=100.25)
    assert isinstance(held_back, AgentTaskHeldBackError)
    assert held_back.is_transient
    # What one task was told is not for the log of another one.
    assert str(error) not in str(held_back)
    # What is left of the pause, and half of it more, since the draw says a half.
    assert held_back.retry_after == 0.75 * PROBE_PAUSE + 0.5 * PROBE_PAUSE


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (AgentTaskRateLimitedError("slow down", status=429), 1.0),
        (AgentTaskRateLimitedError("slow down", status=429, retry_after=90.0), 90.0),
        (AgentTaskUnavailableError("soon", status=503, retry_after=12.0), 12.0),
        (AgentTaskUnavailableError("soon", status=503, retry_after=0.0), 1.0),
    ],
)
def test_what_the_service_asks_for_is_done_at_once(
    silence: Silence, error: AgentTaskError, seconds: float
) -> None:
    fail(silence, error, at=10.0)
    # Who is held back looks again after a while, for the connection may have been changed.
    assert silence.refuse(now=10.0).retry_after == 1.5 * min(LONGEST_WAIT, seconds)
    assert not silence.enter(now=10.0 + seconds - 0.1)
    assert silence.enter(now=10.0 + seconds)


def test_one_asks_for_all_and_the_others_go_on_when_it_was_answered(silence: Silence) -> None:
    fall_silent(silence, at=0.0)
    assert silence.enter(now=1.0)
    assert not silence.enter(now=1.0)
    silence.on_answer(asked_at=1.0)
    assert silence.enter(now=1.1)
    assert silence.enter(now=1.1)


def test_an_answer_ends_the_silence_however_long_it_took(silence: Silence) -> None:
    fall_silent(silence, at=0.0)
    assert [silence.enter(now=now) for now in (1.0, 2.0, 3.0)] == [True, True, True]
    silence.on_answer(asked_at=1.0)
    assert not silence.is_kept(now=3.1)


def test_an_answer_ends_the_silence_although_others_failed_sooner(silence: Silence) -> None:
    fall_silent(silence, at=0.0)
    assert [silence.enter(now=now) for now in (1.0, 2.0, 3.0)] == [True, True, True]
    silence.on_error(DOWN, asked_at=2.0, now=2.1)
    silence.on_error(DOWN, asked_at=3.0, now=3.1)
    silence.on_answer(asked_at=1.0)
    assert not silence.is_kept(now=3.2)


def test_what_is_told_to_those_held_back_is_how_long_nobody_was_answered(silence: Silence) -> None:
    fall_silent(silence, at=100.0)
    silence.on_error(AgentTaskUnavailableError("wait", retry_after=900.0), asked_at=101.0, now=107.0)
    for now in (107.0, 700.0):
        assert silence.refuse(now=now).lasted == SECONDS_UNANSWERED + 7.0
    silence.on_answer(asked_at=1007.0)
    fall_silent(silence, at=2000.0)
    assert silence.refuse(now=2000.0).lasted == SECONDS_UNANSWERED


def test_should_the_one_never_be_heard_of_again_another_one_asks(silence: Silence) -> None:
    fall_silent(silence, at=0.0)
    assert [silence.enter(now=now) for now in (1.0, 1.5, 2.0, 2.5)] == [True, False, True, False]


def test_a_service_that_says_429_again_and_again_is_asked_less_and_less(silence: Silence) -> None:
    now, lengths = 0.0, []
    slow_down = AgentTaskRateLimitedError("slow down", status=429)
    fail(silence, slow_down, at=now)
    for _ in range(8):
        began = now
        while not silence.enter(now=now):
            now += 0.5
        lengths.append(now - began)
        silence.on_error(slow_down, asked_at=now, now=now)
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]
    silence.on_answer(asked_at=now)
    fail(silence, slow_down, at=now)
    assert not silence.enter(now=now + 0.9)
    assert silence.enter(now=now + 1.0)


def test_many_that_were_under_way_are_one_round(silence: Silence) -> None:
    slow_down = AgentTaskRateLimitedError("slow down", status=429)
    news = [silence.on_error(slow_down, asked_at=0.0, now=5.0 + number / 1000) for number in range(100)]
    assert news == [True] + [False] * 99
    assert silence.enter(now=6.2)


@pytest.mark.parametrize("is_answered", [True, False])
def test_what_was_asked_before_the_silence_does_not_end_it(silence: Silence, is_answered: bool) -> None:
    silence.on_error(AgentTaskRateLimitedError("wait", status=429), asked_at=1.0, now=2.0)
    if is_answered:
        silence.on_answer(asked_at=1.5)
    else:
        silence.on_error(AgentTaskNotFoundError("who?", status=404), asked_at=1.5, now=2.5)
    assert not silence.enter(now=2.5)


@pytest.mark.parametrize("status", [404, 422])
def test_a_refusal_of_one_task_is_an_answer(silence: Silence, status: int) -> None:
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW)
    fail(silence, AgentTaskNotFoundError("who?", status=status), at=1.0)
    fail(silence, DOWN, at=SECONDS_UNANSWERED, times=FAILURES_IN_A_ROW)
    assert silence.enter(now=SECONDS_UNANSWERED)


def test_a_key_that_is_refused_is_not_shown_again_for_a_while(silence: Silence) -> None:
    fail(silence, WRONG_KEY, at=0.0)
    assert not silence.enter(now=KEY_PAUSE - 0.1)
    held_back = silence.refuse(now=1.0)
    # Nobody showed it for this task, so its wait goes on; the key may be put right.
    assert (held_back.is_transient, held_back.is_final, held_back.status) == (True, False, 401)
    assert "password field" in str(held_back)
    assert "no such key" not in str(held_back)
    # One shows it again, and until that one was answered nobody else does.
    assert silence.enter(now=KEY_PAUSE)
    assert not silence.enter(now=2 * KEY_PAUSE - 0.1)


def test_one_that_was_under_way_does_not_let_a_refused_key_be_shown(silence: Silence) -> None:
    silence.on_error(WRONG_KEY, asked_at=0.0, now=1.0)
    silence.on_error(AgentTaskRateLimitedError("slow down", status=429), asked_at=0.5, now=2.0)
    assert silence.is_about_key
    assert not silence.enter(now=KEY_PAUSE)
    assert silence.enter(now=KEY_PAUSE + 2.0)


def test_a_wrong_key_is_shown_less_often_than_lightcone_blocks_for(silence: Silence) -> None:
    shown = [now for now in range(600) if silence.enter(now=now) and fail_at(silence, float(now))]
    # The worker that hears of the end of such a wait shows the key as well.
    assert 2 * len(shown) < 10


def fail_at(silence: Silence, now: float) -> bool:
    return silence.on_error(WRONG_KEY, asked_at=now, now=now)


def test_what_a_key_is_not_allowed_to_do_is_one_tasks_affair(silence: Silence) -> None:
    fail(silence, AgentTaskAuthenticationError("not this one", status=403), at=0.0)
    assert silence.enter(now=0.0)


def test_a_new_key_is_shown_by_one_first() -> None:
    silence = Silence(untried_since=5.0, draw=lambda: 1.0)
    assert silence.enter(now=5.0)
    assert not silence.enter(now=5.0)
    # The others are back soon.
    assert silence.refuse(now=5.0).retry_after == 2 * PROBE_PAUSE
    silence.on_answer(asked_at=5.0)
    assert silence.enter(now=5.1)
    assert silence.enter(now=5.1)
