"""When a service may be asked, for all who wait at one connection; the clock and the draw are the test's."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskError,
    AgentTaskHeldBackError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskReplyError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.protocol.polling import LONGEST_WAIT
from airflow_agent_tasks.protocol.silence import FAILURES_IN_A_ROW, KEY_PAUSE, Silence

DOWN = AgentTaskUnavailableError("down", status=503)


@pytest.fixture
def silence() -> Silence:
    return Silence(draw=lambda: 0.5)


def fail(silence: Silence, error: AgentTaskError, *, at: float, times: int = 1) -> None:
    for _ in range(times):
        assert silence.refuse(now=at) is None
        silence.on_error(error, asked_at=at, now=at)


def test_nobody_is_held_back_at_first(silence: Silence) -> None:
    assert silence.refuse(now=0.0) is None


def test_one_failure_is_its_own_tasks_affair(silence: Silence) -> None:
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW - 1)
    silence.on_answer(asked_at=0.0)
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW - 1)
    assert silence.refuse(now=0.0) is None


@pytest.mark.parametrize("error", [DOWN, AgentTaskReplyError("a proxy's page", transient=True)])
def test_failures_in_a_row_hold_everybody_back(silence: Silence, error: AgentTaskError) -> None:
    fail(silence, error, at=100.0, times=FAILURES_IN_A_ROW)
    held_back = silence.refuse(now=100.25)
    assert isinstance(held_back, AgentTaskHeldBackError)
    assert held_back.is_transient
    # What one task was told is not for the log of another one.
    assert str(error) not in str(held_back)
    # What is left of the one second, and half of that second more, since the draw says a half.
    assert held_back.retry_after == 0.75 + 0.5


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
    held_back = silence.refuse(now=10.0)
    assert isinstance(held_back, AgentTaskHeldBackError)
    assert held_back.retry_after == seconds + 0.5 * min(LONGEST_WAIT, seconds)
    assert silence.refuse(now=10.0 + seconds - 0.1)
    assert silence.refuse(now=10.0 + seconds) is None


def test_one_asks_for_all_and_the_others_go_on_when_it_was_answered(silence: Silence) -> None:
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW)
    assert silence.refuse(now=1.0) is None
    assert silence.refuse(now=1.0)
    silence.on_answer(asked_at=1.0)
    assert silence.refuse(now=1.1) is None


def test_an_answer_ends_the_silence_however_long_it_took(silence: Silence) -> None:
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW)
    assert [silence.refuse(now=now) for now in (1.0, 2.0, 3.0)] == [None, None, None]
    silence.on_answer(asked_at=1.0)
    assert silence.refuse(now=3.1) is None
    assert not silence.is_kept(now=3.1)


def test_what_is_told_to_those_held_back_is_how_long_nobody_was_answered(silence: Silence) -> None:
    fail(silence, DOWN, at=100.0, times=FAILURES_IN_A_ROW)
    silence.on_error(AgentTaskUnavailableError("wait", retry_after=900.0), asked_at=101.0, now=107.0)
    for now in (107.0, 700.0):
        held_back = silence.refuse(now=now)
        assert isinstance(held_back, AgentTaskHeldBackError)
        assert held_back.lasted == 7.0
    silence.on_answer(asked_at=1007.0)
    fail(silence, DOWN, at=2000.0, times=FAILURES_IN_A_ROW)
    held_back = silence.refuse(now=2000.0)
    assert isinstance(held_back, AgentTaskHeldBackError)
    assert held_back.lasted == 0.0


def test_should_the_one_never_be_heard_of_again_another_one_asks(silence: Silence) -> None:
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW)
    assert [silence.refuse(now=now) is None for now in (1.0, 1.5, 2.0, 2.5)] == [True, False, True, False]


def test_the_silence_grows_with_each_round_that_fails_up_to_the_longest_wait(silence: Silence) -> None:
    now, lengths = 0.0, []
    fail(silence, DOWN, at=now, times=FAILURES_IN_A_ROW)
    for _ in range(8):
        began = now
        while silence.refuse(now=now):
            now += 0.5
        lengths.append(now - began)
        silence.on_error(DOWN, asked_at=now, now=now)
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]
    silence.on_answer(asked_at=now)
    fail(silence, DOWN, at=now, times=FAILURES_IN_A_ROW)
    assert silence.refuse(now=now + 0.9)
    assert silence.refuse(now=now + 1.0) is None


def test_many_that_were_under_way_are_one_round(silence: Silence) -> None:
    for number in range(100):
        silence.on_error(DOWN, asked_at=0.0, now=5.0 + number / 1000)
    assert silence.refuse(now=6.2) is None


@pytest.mark.parametrize("is_answered", [True, False])
def test_what_was_asked_before_the_silence_does_not_end_it(silence: Silence, is_answered: bool) -> None:
    silence.on_error(AgentTaskRateLimitedError("wait", status=429), asked_at=1.0, now=2.0)
    if is_answered:
        silence.on_answer(asked_at=1.5)
    else:
        silence.on_error(AgentTaskNotFoundError("who?", status=404), asked_at=1.5, now=2.5)
    assert silence.refuse(now=2.5)


@pytest.mark.parametrize("status", [404, 422])
def test_a_refusal_of_one_task_is_an_answer(silence: Silence, status: int) -> None:
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW - 1)
    fail(silence, AgentTaskNotFoundError("who?", status=status), at=0.0)
    fail(silence, DOWN, at=0.0, times=FAILURES_IN_A_ROW - 1)
    assert silence.refuse(now=0.0) is None


def test_a_key_that_is_refused_is_refused_for_everybody_for_a_while(silence: Silence) -> None:
    fail(silence, AgentTaskAuthenticationError("no such key", status=401), at=0.0)
    refusal: Any = silence.refuse(now=KEY_PAUSE - 0.1)
    assert (type(refusal), refusal.status) == (AgentTaskAuthenticationError, 401)
    assert "no such key" not in str(refusal)
    # One shows it again, and until that one was answered nobody else does.
    assert silence.refuse(now=KEY_PAUSE) is None
    assert silence.refuse(now=2 * KEY_PAUSE - 0.1)


def test_what_a_key_is_not_allowed_to_do_is_one_tasks_affair(silence: Silence) -> None:
    fail(silence, AgentTaskAuthenticationError("not this one", status=403), at=0.0)
    assert silence.refuse(now=0.0) is None
