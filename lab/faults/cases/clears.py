"""Cases in which a user clears Airflow tasks: each way to clear, and each state that a task may be in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from lab.cluster.airflow_api import AirflowApiError
from lab.cluster.installed_airflow import IS_3_4_PLUS
from lab.faults.case_definition import (
    LONG,
    ON_WORKER,
    Case,
    CaseError,
    CaseSkipped,
    Expected,
    Scenario,
    Steps,
)
from lab.faults.cases.questions import ANSWER, ASKING, finish
from lab.faults.our_case_run import OurCaseRun, list_messages

#: The task upstream of a mapped task that shrinks.
LIST_TASK = "list_indices"
Clear = Callable[[tuple[OurCaseRun, ...]], None]


def clear_in_each_state(clear: Clear, *, needs_keep_task_state: bool) -> Callable[..., Steps]:
    """
    Return a drive that clears the tasks of one DAG run, each in its state, in the order of ``STATES``.

    :param clear: Clears them.
    :param needs_keep_task_state: True if that needs an Airflow whose clear can keep the task's state.
    """

    def drive(
        on_worker: OurCaseRun,
        deferred: OurCaseRun,
        parked: OurCaseRun,
        between_tries: OurCaseRun,
        succeeded: OurCaseRun,
    ) -> Steps:
        if needs_keep_task_state and not IS_3_4_PLUS:
            raise CaseSkipped(
                "before Airflow 3.4, a clear always keeps the task's state and has no keep_task_state"
            )
        on_worker.start()
        yield from between_tries.until_waited_for()
        between_tries.kill_worker()
        yield from on_worker.until_waited_for()
        yield from deferred.until_waited_for()
        yield from parked.until_asked()
        yield from succeeded.until_ended()
        yield from between_tries.until(
            lambda: between_tries.task.state == "up_for_retry", "Airflow noticed the lost worker"
        )
        runs = (on_worker, deferred, parked, between_tries, succeeded)
        clear(runs)
        for run in runs:
            try:
                yield from start_over(run)
            except (CaseError, AirflowApiError) as error:
                run.check(False, str(error))

    return drive


def start_over(run: OurCaseRun) -> Steps:
    """Wait for the end of the try after a clear, and check that the old remote task was stopped first."""
    yield from run.until(lambda: len(run.remote_tasks) > 1, "a new remote task was started")
    if run.case.expected.stopped:
        first, second = (entry["time"] for entry in run.starts[:2])
        stopped = [entry["time"] for entry in run.stops]
        run.check(
            any(first < moment < second for moment in stopped),
            "the old remote task was not stopped before the new one was started",
        )
    if not run.case.ask:
        yield from run.until_ended(tries=2)
        return
    form = yield from run.until_asked()
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER, tries=2)
    heard = list_messages(run.remote_tasks[1:])
    run.check(heard == [ANSWER], f"the new remote task received {heard}")


def clear_each(runs: tuple[OurCaseRun, ...], *, keep_task_state: bool = False) -> None:
    """Clear one task after the other, or one index of a mapped task."""
    for run in runs:
        run.clear(keep_task_state=keep_task_state)


def clear_mapped_task(runs: tuple[OurCaseRun, ...], *, keep_task_state: bool = False) -> None:
    """Clear a mapped task as a whole."""
    runs[0].cluster.api.clear(runs[0].task, all_indices=True, keep_task_state=keep_task_state)


def clear_dag_run(runs: tuple[OurCaseRun, ...]) -> None:
    """Clear the DAG run."""
    runs[0].cluster.api.clear_run(runs[0].task)


def shrink_mapped_task(kept: OurCaseRun, deferred: OurCaseRun, parked: OurCaseRun) -> Steps:
    """Clear the task that lists the indices and all tasks downstream; then only the first is listed."""
    kept.start()
    yield from kept.until_ended()
    yield from deferred.until_waited_for()
    yield from parked.until_asked()
    kept.cluster.api.clear_with_downstream(kept.task, LIST_TASK)
    yield from kept.until_ended(tries=2)
    yield from deferred.until_stopped()
    yield from parked.until_stopped()


SHORT = 6.0
STOPPED_AND_ANEW = Expected(started=2, stopped=1, tries=2)
#: The end of the case's name, the end of its title, the expected outcome, and the case's options.
STATES: tuple[tuple[str, str, Expected, Mapping[str, Any]], ...] = (
    (
        "on_worker",
        "while running",
        STOPPED_AND_ANEW,
        {"seconds": LONG, "later_seconds": SHORT, "arguments": ON_WORKER},
    ),
    ("deferred", "while deferred", STOPPED_AND_ANEW, {"seconds": LONG, "later_seconds": SHORT}),
    (
        "parked",
        "while parked at a question",
        Expected(started=2, stopped=1, tries=2, asked=2, received=(ANSWER,)),
        ASKING,
    ),
    (
        "between_tries",
        "while up for retry",
        STOPPED_AND_ANEW,
        {"seconds": LONG, "later_seconds": SHORT, "arguments": ON_WORKER},
    ),
    ("after_success", "after success", Expected(started=2, tries=2, results=2), {"seconds": SHORT}),
)


def build_scenario(
    group: str,
    title: str,
    service: str,
    clear: Clear,
    *,
    is_mapped: bool = False,
    needs_keep_task_state: bool = False,
) -> Scenario:
    """Return a scenario whose DAG run has a task, or an index of a mapped task, in each state."""
    cases = (
        Case(
            f"{group}_{name}",
            f"{title} {words}",
            service,
            expected,
            group=group,
            map_index=index if is_mapped else -1,
            # No try may start by itself: the task is cleared while it waits for its next try.
            retry_delay=LONG,
            **options,
        )
        for index, (name, words, expected, options) in enumerate(STATES)
    )
    drive = clear_in_each_state(clear, needs_keep_task_state=needs_keep_task_state)
    return Scenario(drive, tuple(cases))


def build_shrinking_scenario() -> Scenario:
    """Return the scenario of a mapped task that has fewer indices after a clear."""
    removed = Expected(stopped=1, state="removed", tries=None, results=0)
    states: tuple[tuple[str, str, Expected, Mapping[str, Any]], ...] = (
        (
            "kept",
            "cleared, its index is still listed",
            Expected(started=2, tries=2, results=2),
            {"seconds": SHORT},
        ),
        ("deferred", "cleared while deferred, and removed", removed, {"seconds": LONG}),
        ("parked", "cleared while parked, and removed", replace(removed, asked=1), ASKING),
    )
    cases = (
        Case(
            f"shrunk_{name}",
            f"mapped: {words}",
            "shinzo",
            expected,
            group="shrunk",
            map_index=index,
            listed_by=LIST_TASK,
            **options,
        )
        for index, (name, words, expected, options) in enumerate(states)
    )
    return Scenario(shrink_mapped_task, tuple(cases))


KEPT = "(keep_task_state)"
clear_each_kept = partial(clear_each, keep_task_state=True)
CLEAR_SCENARIOS = (
    build_scenario("cleared", "cleared", "lightcone", clear_each),
    build_scenario("run_cleared", "DAG run cleared", "shinzo", clear_dag_run),
    build_scenario("index_cleared", "mapped: one index cleared", "lightcone", clear_each, is_mapped=True),
    build_scenario("mapped_cleared", "mapped: all cleared", "shinzo", clear_mapped_task, is_mapped=True),
    build_scenario("cleared_keep", f"cleared {KEPT}", "shinzo", clear_each_kept, needs_keep_task_state=True),
    build_scenario(
        "index_cleared_keep",
        f"mapped: one index cleared {KEPT}",
        "shinzo",
        clear_each_kept,
        is_mapped=True,
        needs_keep_task_state=True,
    ),
    build_scenario(
        "mapped_cleared_keep",
        f"mapped: all cleared {KEPT}",
        "lightcone",
        partial(clear_mapped_task, keep_task_state=True),
        is_mapped=True,
        needs_keep_task_state=True,
    ),
    build_shrinking_scenario(),
)
