"""The lines about status checks: what they say, and which changes get one."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.errors import AgentTaskUnavailableError
from airflow_agent_tasks.lifecycle.pace import WRITE_INTERVAL, Pace
from airflow_agent_tasks.lifecycle.state_log import StateLog

START = 1_700_000_000.0
OFFLINE = AgentTaskUnavailableError("No connection.")


def seen(state: TaskState = TaskState.RUNNING, *, remote: str = "", **progress: Any) -> AgentTask:
    return AgentTask(
        "shinzo", "tsk_1", state, remote_status=remote, progress=Progress(**progress) if progress else None
    )


def at_step(number: int, state: TaskState = TaskState.RUNNING) -> AgentTask:
    return seen(state, current_step="Reading", steps_completed=number, total_steps=5)


def write(log: StateLog, *checks: tuple[float, AgentTask | AgentTaskUnavailableError]) -> list[str]:
    """Return what the log gets of checks at these seconds."""
    lines = []
    for seconds, found in checks:
        if isinstance(found, AgentTask):
            line = log.on_state(found, now=START + seconds, submitted_at=START)
        else:
            line = log.on_failure(found, now=START + seconds)
        lines += [line.text] if line else []
    return lines


@pytest.mark.parametrize(
    ("task", "seconds", "line"),
    [
        (
            seen(current_step="Analyzing code structure", steps_completed=2, total_steps=5),
            80.4,
            "Running, step 2 of 5: Analyzing code structure (1 min 20 s since the start)",
        ),
        (
            seen(current_step="Reading", steps_completed=2),
            0,
            "Running, step 2: Reading (0 s since the start)",
        ),
        (seen(steps_completed=0, total_steps=5), 59.4, "Running, step 0 of 5 (59 s since the start)"),
        (seen(current_step="Reading"), 3600, "Running: Reading (1 h 0 min since the start)"),
        (seen(current_step="Reading", total_steps=5), 90061, "Running: Reading (25 h 1 min since the start)"),
        (at_step(1, TaskState.PAUSED), -5, "Paused, step 1 of 5: Reading (0 s since the start)"),
        (
            at_step(1, TaskState.AWAITING_INPUT),
            5,
            "Awaiting input, step 1 of 5: Reading (5 s since the start)",
        ),
        (seen(total_steps=5), 5, "Seen: shinzo agent task tsk_1 (status running)"),
        (seen(current_step="\u200b "), 5, "Seen: shinzo agent task tsk_1 (status running)"),
        (at_step(5, TaskState.COMPLETED), 5, "Seen: shinzo agent task tsk_1 (status completed)"),
        (
            seen(TaskState.UNKNOWN, remote="on strike", steps_completed=2),
            5,
            "Seen: shinzo agent task tsk_1 (status unknown, the service says 'on strike')",
        ),
    ],
)
def test_a_line_tells_state_step_and_time(task: AgentTask, seconds: float, line: str) -> None:
    assert write(StateLog(), (seconds, task)) == [line]


def test_without_the_time_of_the_submission_a_line_tells_no_time() -> None:
    line = StateLog().on_state(at_step(2), now=START)
    assert line
    assert line.text == "Running, step 2 of 5: Reading"


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "a\nERROR b\r\x1b[31m", "\u202eesrever", "::group::folded", "\ud800", "%s %d"]
)
def test_a_hostile_step_stays_on_one_short_line(text: str) -> None:
    (line,) = write(StateLog(), (0, seen(current_step=text, steps_completed=10**15, total_steps=-1)))
    assert len(line) < 250
    assert not [c for c in line if unicodedata.category(c) in {"Cc", "Cf", "Cs"}]
    assert "::group::" not in line


def test_an_unknown_state_and_a_failure_are_warnings() -> None:
    log = StateLog()
    lines = [
        log.on_state(seen(TaskState.UNKNOWN), now=START),
        log.on_failure(OFFLINE, now=START),
        log.on_state(at_step(1), now=START),
    ]
    assert [line.level for line in lines if line] == ["warning", "warning", "info"]


# --- when ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_triggerer", [False, True])
def test_steps_that_come_too_soon_are_skipped_and_the_newest_is_logged_later(in_triggerer: bool) -> None:
    log = StateLog(in_triggerer=in_triggerer)
    lines = write(log, *((2.0 * number, at_step(number // 2)) for number in range(11)))
    assert [line.partition(":")[0] for line in lines] == [f"Running, step {n} of 5" for n in (0, 2, 5)]


def test_a_step_that_has_gone_again_is_never_logged() -> None:
    lines = write(StateLog(), (0, at_step(1)), (2, at_step(2)), (4, at_step(1)), (20, at_step(1)))
    assert lines == ["Running, step 1 of 5: Reading (0 s since the start)"]


def test_a_worker_logs_a_change_of_state_and_a_failure_at_once() -> None:
    lines = write(
        StateLog(),
        (0, seen(TaskState.QUEUED)),
        (1, at_step(1)),
        (2, at_step(2)),
        (3, at_step(2, TaskState.PAUSED)),
        (4, OFFLINE),
        (5, OFFLINE),
        (6, AgentTaskUnavailableError("Another.")),
        (7, at_step(2, TaskState.PAUSED)),
        (8, at_step(2, TaskState.COMPLETED)),
    )
    assert [line.partition(",")[0].partition("(")[0].strip() for line in lines] == [
        *("Seen: shinzo agent task tsk_1", "Running", "Paused"),
        *("Could not get the state: No connection.", "Paused", "Seen: shinzo agent task tsk_1"),
    ]


def test_a_triggerer_logs_nothing_sooner_than_the_pace_allows_but_the_end() -> None:
    log = StateLog(in_triggerer=True)
    checks = [(0, at_step(1)), (2, at_step(2, TaskState.PAUSED)), (4, OFFLINE), (6, at_step(3))]
    assert len(write(log, *checks)) == 1
    end = log.on_state(seen(TaskState.COMPLETED), now=START + 7, is_last=True)
    assert end
    assert end.text == "Seen: shinzo agent task tsk_1 (status completed)"


def test_a_triggerer_does_not_repeat_the_first_state_that_the_worker_has_logged() -> None:
    checks = [(0, seen()), (2, seen()), (4, seen(TaskState.PAUSED))]
    assert write(StateLog(in_triggerer=True), *checks) == ["Seen: shinzo agent task tsk_1 (status paused)"]


def test_a_triggerer_logs_the_first_failure() -> None:
    assert write(StateLog(in_triggerer=True), (0, OFFLINE)) == ["Could not get the state: No connection."]


# --- the pace ------------------------------------------------------------------------------------------


class Rate:
    """A shared rate by the clock of the test: so many writes each second."""

    def __init__(self, per_second: float, tasks: int) -> None:
        self.per_second = per_second
        self.left = 0.0
        self._tasks = tasks

    def count_tasks(self) -> int:
        return self._tasks

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def test_each_of_ten_thousand_tasks_gets_its_turn_whatever_the_order_in_which_they_ask() -> None:
    tasks, rate = 10_000, Rate(20.0, 10_000)
    written = [0] * tasks
    paces = [Pace(rate) for _ in range(tasks)]
    for second in range(0, 1500, 10):
        rate.left = 10 * rate.per_second
        # Always in the same order: the first ones would take every write.
        for number, pace in enumerate(paces):
            written[number] += pace.take(now=float(second))
    assert set(written) == {3}


@pytest.mark.parametrize(("tasks", "seconds"), [(1, 10), (200, 10), (1000, 50)])
def test_a_task_waits_until_each_of_the_others_may_have_written(tasks: int, seconds: int) -> None:
    rate = Rate(20.0, tasks)
    rate.left = 1000
    pace = Pace(rate)
    written = [second for second in range(120) if pace.take(now=START + second)]
    assert written == list(range(0, 120, seconds))


def test_a_clock_that_is_set_back_does_not_silence_a_task() -> None:
    pace = Pace()
    assert pace.take(now=START)
    assert not pace.take(now=START + WRITE_INTERVAL - 0.1)
    assert pace.take(now=START - 3600)
    assert not pace.take(now=START - 3599)


def test_a_write_that_cannot_wait_counts() -> None:
    pace = Pace()
    assert pace.take(now=START)
    assert pace.take(now=START + 9, at_once=True)
    assert not pace.take(now=START + 18)
