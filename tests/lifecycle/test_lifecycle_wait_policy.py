"""The waiting decision: states and errors go in with a time, a verdict and a wait come out."""

from __future__ import annotations

import random

import pytest

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskAuthenticationError,
    AgentTaskCircuitOpenError,
    AgentTaskConfigurationError,
    AgentTaskError,
    AgentTaskInsecureError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskRejectedError,
    AgentTaskReplyError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait, Verdict

START = 1_700_000_000.0
ALL = frozenset(TaskState)
ENDS = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}
OFFLINE = AgentTaskUnavailableError("No connection.")


def never_shorten() -> float:
    return 0.0


def always_shorten() -> float:
    return 1.0


def seen(state: TaskState) -> AgentTask:
    return AgentTask("shinzo", "tsk_1", state)


RUNNING = seen(TaskState.RUNNING)


# --- how long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elapsed", "seconds"),
    [
        (0, 2.0),
        (20, 3.0),
        (60, 5.0),
        (100, 7.0),
        (559, 29.95),
        (560, 30.0),
        (3600, 30.0),
        (1e9, 30.0),
        (-50, 2.0),
    ],
)
def test_the_wait_grows_with_the_time_since_the_submission(elapsed: float, seconds: float) -> None:
    wait = TaskWait(working_since=START, draw=never_shorten)
    assert wait.begin(now=START + elapsed).seconds == pytest.approx(seconds)
    assert wait.on_state(RUNNING, now=START + elapsed).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("elapsed", "seconds"), [(0, 2.0), (1, 2.0), (20, 2.7), (60, 4.5), (3600, 27.0)])
def test_jitter_shortens_by_a_tenth_at_most_and_never_below_two_seconds(
    elapsed: float, seconds: float
) -> None:
    wait = TaskWait(working_since=START, draw=always_shorten)
    assert wait.begin(now=START + elapsed).seconds == pytest.approx(seconds)


def test_a_wait_with_jitter_is_never_longer_than_one_without() -> None:
    for now in range(int(START), int(START) + 4_000, 7):
        longest = TaskWait(working_since=START, draw=never_shorten).begin(now=now).seconds
        seconds = TaskWait(working_since=START).begin(now=now).seconds
        assert max(2.0, 0.9 * longest) <= seconds <= longest <= 30.0


@pytest.mark.parametrize("poll_interval", [0.1, 5, 120.0])
@pytest.mark.parametrize("elapsed", [0, 100, 10_000])
def test_a_fixed_interval_neither_grows_nor_varies(poll_interval: float, elapsed: float) -> None:
    wait = TaskWait(working_since=START, poll_interval=poll_interval, draw=always_shorten)
    assert wait.begin(now=START + elapsed).seconds == poll_interval
    assert wait.on_state(RUNNING, now=START + elapsed).seconds == poll_interval


def test_a_wait_carries_the_task_that_was_seen() -> None:
    decision = TaskWait(working_since=START).on_state(RUNNING, now=START)
    assert (decision.verdict, decision.task, decision.error) == (Verdict.WAIT, RUNNING, None)
    assert decision.waits


# --- which states --------------------------------------------------------------------------------------

#: Written out anew: from each state, the states that may still be reached.
REACHABLE = {
    TaskState.QUEUED: ALL,
    TaskState.RUNNING: ALL - {TaskState.QUEUED},
    TaskState.PAUSED: ALL - {TaskState.QUEUED},
    TaskState.AWAITING_INPUT: ALL - {TaskState.QUEUED},
    TaskState.COMPLETED: {TaskState.COMPLETED},
    TaskState.FAILED: {TaskState.FAILED},
    TaskState.CANCELLED: {TaskState.CANCELLED},
    TaskState.UNKNOWN: ALL,
}


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("target", TaskState)
def test_every_pair_of_state_and_target_is_decided(state: TaskState, target: TaskState) -> None:
    decision = TaskWait(working_since=START, targets=[target]).on_state(seen(state), now=START)
    if state is target:
        expected = Verdict.REACHED
    elif target in REACHABLE[state]:
        expected = Verdict.WAIT
    else:
        expected = Verdict.UNREACHABLE
    assert (decision.verdict, decision.task) == (expected, seen(state))
    assert decision.waits is (expected is Verdict.WAIT)


@pytest.mark.parametrize("state", TaskState)
def test_by_default_the_end_or_a_question_is_waited_for(state: TaskState) -> None:
    decision = TaskWait(working_since=START).on_state(seen(state), now=START)
    stops = state in ENDS or state is TaskState.AWAITING_INPUT
    assert decision.verdict is (Verdict.REACHED if stops else Verdict.WAIT)


def test_one_reachable_target_is_worth_waiting_for() -> None:
    wait = TaskWait(working_since=START, targets=[TaskState.QUEUED, TaskState.PAUSED])
    assert wait.on_state(RUNNING, now=START).waits


# --- the deadline --------------------------------------------------------------------------------------


def test_the_last_wait_ends_exactly_at_the_deadline() -> None:
    wait = TaskWait(working_since=START, deadline=START + 100, draw=never_shorten)
    assert wait.on_state(RUNNING, now=START + 98.5).seconds == 1.5
    assert wait.on_state(RUNNING, now=START + 99.999).waits
    assert wait.on_state(RUNNING, now=START + 100) == Decision(Verdict.TIMEOUT, task=RUNNING)
    assert wait.begin(now=START + 101).verdict is Verdict.TIMEOUT


def test_a_wait_that_ends_before_the_deadline_is_left_as_it_is() -> None:
    wait = TaskWait(working_since=START, deadline=START + 100, poll_interval=10)
    assert wait.on_state(RUNNING, now=START + 90).seconds == 10
    assert wait.on_state(RUNNING, now=START + 91).seconds == 9


def test_a_task_that_ended_is_reached_even_after_the_deadline() -> None:
    wait = TaskWait(working_since=START, deadline=START + 100)
    assert wait.on_state(seen(TaskState.FAILED), now=START + 500).verdict is Verdict.REACHED


def test_a_deadline_passes_during_an_outage_too() -> None:
    wait = TaskWait(working_since=START, deadline=START + 10, draw=never_shorten)
    assert wait.on_error(OFFLINE, now=START + 9).seconds == 1
    assert wait.on_error(OFFLINE, now=START + 10).verdict is Verdict.TIMEOUT


# --- failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        AgentTaskAuthenticationError("a", status=401),
        AgentTaskRejectedError("a", status=400),
        AgentTaskNotFoundError("a", status=404),
        AgentTaskReplyError("a"),
        AgentTaskUncertainError("a"),
        AgentTaskConfigurationError("a"),
        AgentTaskArgumentError("a"),
    ],
)
def test_a_failure_that_will_not_pass_ends_the_wait_at_once(error: AgentTaskError) -> None:
    assert TaskWait(working_since=START).on_error(error, now=START) == Decision(Verdict.ERROR, error=error)


@pytest.mark.parametrize(
    "error",
    [
        OFFLINE,
        AgentTaskRateLimitedError("a", status=429),
        AgentTaskReplyError("a", transient=True),
        AgentTaskInsecureError("a"),
    ],
)
def test_a_failure_that_may_pass_is_waited_out(error: AgentTaskError) -> None:
    assert TaskWait(working_since=START).on_error(error, now=START).waits


def test_the_waits_double_during_an_outage() -> None:
    wait = TaskWait(working_since=START, draw=never_shorten)
    assert [wait.on_error(OFFLINE, now=START).seconds for _ in range(8)] == [2, 2, 4, 8, 16, 30, 30, 30]


def test_the_waits_of_an_outage_are_jittered_downwards() -> None:
    wait = TaskWait(working_since=START, draw=always_shorten)
    seconds = [wait.on_error(OFFLINE, now=START).seconds for _ in range(7)]
    assert seconds == pytest.approx([2, 2, 3.6, 7.2, 14.4, 27, 27])


def test_the_waits_of_an_outage_are_never_shorter_than_the_fixed_interval() -> None:
    wait = TaskWait(working_since=START, poll_interval=10, draw=never_shorten)
    assert [wait.on_error(OFFLINE, now=START).seconds for _ in range(6)] == [10, 10, 10, 10, 16, 30]


def test_an_outage_is_measured_in_time_and_not_in_failures() -> None:
    wait = TaskWait(working_since=START)
    assert all(wait.on_error(OFFLINE, now=START + 100).waits for _ in range(2_000))
    assert wait.on_error(OFFLINE, now=START + 699.9).waits
    assert wait.on_error(OFFLINE, now=START + 700) == Decision(Verdict.OUTAGE, error=OFFLINE)


def test_the_length_of_an_outage_can_be_chosen() -> None:
    wait = TaskWait(working_since=START, max_outage=5)
    assert wait.on_error(OFFLINE, now=START).waits
    assert wait.on_error(OFFLINE, now=START + 5).verdict is Verdict.OUTAGE


def test_a_rejected_task_gives_up_only_when_nobody_was_answered_for_that_long() -> None:
    wait = TaskWait(working_since=START, draw=never_shorten)

    def reject(seconds: float) -> AgentTaskCircuitOpenError:
        return AgentTaskCircuitOpenError("rejected", status=429, retry_after=60.0, outage_seconds=seconds)

    for at in range(0, 10_000, 100):
        assert wait.on_error(reject(599.0), now=START + at) == Decision(Verdict.WAIT, seconds=60.0)
    given_up = reject(600.0)
    assert wait.on_error(given_up, now=START) == Decision(Verdict.OUTAGE, error=given_up)
    # It is no failure of its own, from which its own outage would count.
    assert wait.on_error(OFFLINE, now=START + 20_000).waits


def test_a_rejected_task_waits_no_longer_each_time() -> None:
    wait = TaskWait(working_since=START, poll_interval=3.0, draw=never_shorten)
    rejection = AgentTaskCircuitOpenError("rejected", retry_after=1.5)
    assert {wait.on_error(rejection, now=START).seconds for _ in range(20)} == {3.0}


def test_a_success_ends_the_outage() -> None:
    wait = TaskWait(working_since=START, draw=never_shorten)
    for at in range(0, 590, 10):
        assert wait.on_error(OFFLINE, now=START + at).waits
    wait.on_state(RUNNING, now=START + 595)
    assert wait.on_error(OFFLINE, now=START + 600).waits
    assert wait.on_error(OFFLINE, now=START + 1199).waits
    assert wait.on_error(OFFLINE, now=START + 1200).verdict is Verdict.OUTAGE


def test_after_a_success_the_waits_of_an_outage_begin_small_again() -> None:
    wait = TaskWait(working_since=START, draw=never_shorten)
    for _ in range(6):
        wait.on_error(OFFLINE, now=START)
    wait.on_state(RUNNING, now=START)
    assert [wait.on_error(OFFLINE, now=START).seconds for _ in range(4)] == [2, 2, 4, 8]


@pytest.mark.parametrize("error_type", [AgentTaskUnavailableError, AgentTaskRateLimitedError])
@pytest.mark.parametrize(("asked", "seconds"), [(None, 2), (0.0, 2), (1.0, 2), (12.5, 12.5), (90.0, 90.0)])
def test_the_wait_that_the_service_asks_for_is_kept_without_jitter(
    error_type: type[AgentTaskUnavailableError], asked: float | None, seconds: float
) -> None:
    wait = TaskWait(working_since=START, draw=always_shorten)
    error = error_type("a", status=429, retry_after=asked)
    assert wait.on_error(error, now=START).seconds == seconds


def test_the_wait_that_the_service_asks_for_ends_at_the_deadline() -> None:
    wait = TaskWait(working_since=START, deadline=START + 60)
    error = AgentTaskRateLimitedError("a", status=429, retry_after=3600.0)
    assert wait.on_error(error, now=START + 20).seconds == 40


# --- whole runs ----------------------------------------------------------------------------------------


def simulate(run_seconds: float, wait: TaskWait) -> tuple[int, float]:
    """Return the number of requests, and the seconds after its end at which the end was seen."""
    now, requests = START, 1
    decision = wait.on_state(RUNNING, now=now)
    while decision.waits:
        now += decision.seconds
        requests += 1
        ended = now >= START + run_seconds
        decision = wait.on_state(seen(TaskState.COMPLETED) if ended else RUNNING, now=now)
    assert decision.verdict is Verdict.REACHED
    return requests, now - START - run_seconds


DRAWS = {"no jitter": never_shorten, "all jitter": always_shorten}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("minutes", "share_of_fixed"), [(10, 0.55), (60, 0.27)])
def test_a_run_takes_fewer_requests_than_one_every_five_seconds(
    minutes: int, share_of_fixed: float, draw: str
) -> None:
    requests, _ = simulate(60 * minutes, TaskWait(working_since=START, draw=DRAWS[draw]))
    assert requests <= share_of_fixed * 60 * minutes / 5


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("minutes", [1, 10, 60])
def test_the_end_of_a_run_is_seen_at_most_a_twentieth_and_two_seconds_late(minutes: int, draw: str) -> None:
    for run_seconds in range(60 * minutes, 60 * minutes + 40):
        _, lateness = simulate(run_seconds, TaskWait(working_since=START, draw=DRAWS[draw]))
        assert 0 <= lateness <= 0.05 * run_seconds + 2


@pytest.mark.parametrize("seed", range(20))
def test_the_same_holds_with_drawn_jitter(seed: int) -> None:
    source = random.Random(seed)  # noqa: S311
    for minutes, most in ((1, 21), (10, 66), (60, 194)):
        requests, lateness = simulate(60 * minutes, TaskWait(working_since=START, draw=source.random))
        assert requests <= most
        assert lateness <= 0.05 * 60 * minutes + 2


def test_a_wait_that_moves_to_another_process_goes_on_where_it_was() -> None:
    moved = TaskWait(working_since=START, draw=never_shorten)
    assert moved.begin(now=START + 200).seconds == 12
