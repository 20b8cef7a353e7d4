"""The rows of the table of ``make upgrade``: tasks that wait during the upgrade, and their outcomes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from packaging.version import Version

from lab.faults.case_definition import EXACTLY_ONE, LONG, ON_WORKER, Case, Expected, Scenario, Steps
from lab.faults.cases.clears import STOPPED_AND_ANEW, clear_mapped_task, start_over
from lab.faults.cases.questions import ANSWER, ASKING, RECEIVED_ONCE, finish
from lab.faults.cases.users import STOP_LIMIT
from lab.faults.our_case_run import OurCaseRun
from lab.upgrade.rehearsed_upgrade import TIMEOUT, RehearsedUpgrade

#: Seconds that an agent works if it must outlast the upgrade, even on a busy machine.
BEYOND_THE_UPGRADE = 180.0
#: Seconds that an agent works if it must complete while Airflow is stopped.
MEANWHILE = 30.0
#: Seconds that an agent works if it is started after the upgrade.
SHORT = 6.0


def let_it_complete(upgrade: RehearsedUpgrade, *runs: OurCaseRun) -> Steps:
    """Defer; the agents complete after the upgrade."""
    yield from start_and_defer(runs)
    yield from upgrade.wait(*runs, state="deferred")
    yield from complete(*runs)


def let_it_complete_meanwhile(upgrade: RehearsedUpgrade, run: OurCaseRun) -> Steps:
    """Defer; the agent completes while Airflow is stopped."""
    yield from upgrade.until_all_others_wait(run)
    yield from start_and_defer([run])
    yield from upgrade.wait(run, state="deferred", event=lambda: has_completed(run))
    yield from run.until_ended()


def retry(upgrade: RehearsedUpgrade, run: OurCaseRun) -> Steps:
    """Lose the worker; the next try is due after the upgrade, or while Airflow is stopped."""
    yield from run.start_and_wait()
    run.kill_worker()
    yield from run.until(lambda: run.task.state == "up_for_retry", "Airflow noticed the lost worker")
    yield from upgrade.wait(run, state="up_for_retry")
    yield from complete(run)


def lose_the_worker(upgrade: RehearsedUpgrade, run: OurCaseRun) -> Steps:
    """Wait on a worker, which ends when Airflow is stopped."""
    yield from run.start_and_wait()
    yield from upgrade.wait(run, state="running")
    yield from complete(run)


def answer(upgrade: RehearsedUpgrade, run: OurCaseRun) -> Steps:
    """Ask a question, and answer it after the upgrade."""
    run.start()
    yield from run.until_asked()
    yield from upgrade.wait(run, state="awaiting_input")
    (form,) = run.cluster.api.list_questions(run.case.dag_id)
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER)


def clear_as_a_whole(upgrade: RehearsedUpgrade, *runs: OurCaseRun) -> Steps:
    """Defer, and clear the mapped task after the upgrade."""
    yield from start_and_defer(runs)
    yield from upgrade.wait(*runs, state="deferred")
    cleared_at = time.time()
    clear_mapped_task(runs)
    for run in runs:
        yield from be_replaced(run, cleared_at)


def be_replaced(run: OurCaseRun, cleared_at: float) -> Steps:
    """Measure how soon the old remote task is stopped, and wait for the end of its replacement."""
    yield from run.until_stopped()
    seconds = run.stops[0]["time"] - cleared_at
    run.measure("stopped after", seconds)
    run.check(seconds <= STOP_LIMIT, f"stopped {seconds:.1f} s after the clear, not within {STOP_LIMIT} s")
    yield from run.until(lambda: len(run.remote_tasks) > 1, "a new remote task was started")
    yield from run.until_ended()


def clear_the_first(upgrade: RehearsedUpgrade, cleared: OurCaseRun, other: OurCaseRun) -> Steps:
    """Defer, and clear one index of the mapped task after the upgrade."""
    yield from start_and_defer([cleared, other])
    yield from upgrade.wait(cleared, other, state="deferred")
    cleared.clear()
    yield from start_over(cleared)
    yield from complete(other)


def start_and_defer(runs: Sequence[OurCaseRun]) -> Steps:
    """Start the DAG run, and wait until a triggerer waits for each of the remote tasks."""
    runs[0].start()
    for run in runs:
        yield from run.until_waited_for()


def complete(*runs: OurCaseRun) -> Steps:
    """Check that the agents kept working during the upgrade, and wait for the end of their tasks."""
    for run in runs:
        run.check(not has_completed(run), "the agent completed before the newer Airflow was ready")
    yield from runs[0].until(lambda: all(map(has_completed, runs)), "the agents completed", timeout=TIMEOUT)
    for run in runs:
        yield from run.until_ended()


def has_completed(run: OurCaseRun) -> bool:
    """Return True once the first remote task has completed."""
    return bool(run.remote_tasks[0]["status"] == "completed")


def _case(name: str, title: str, service: str, expected: Expected = EXACTLY_ONE, **options: Any) -> Case:
    return Case(name, title, service, expected, **{"seconds": BEYOND_THE_UPGRADE, **options})


def _mapped(group: str, title: str, service: str, *expected: Expected, **options: Any) -> tuple[Case, ...]:
    return tuple(
        _case(
            f"{group}_{index}",
            f"{title}[{index}]",
            service,
            of_index,
            group=group,
            map_index=index,
            **options,
        )
        for index, of_index in enumerate(expected)
    )


#: Each drive is called with the upgrade too.
SCENARIOS = (
    Scenario(
        retry,
        (
            _case(
                "upgraded_between_tries",
                "worker lost: between two tries",
                "lightcone",
                Expected(tries=2),
                arguments=ON_WORKER,
                retry_delay=90.0,
            ),
        ),
    ),
    Scenario(
        lose_the_worker,
        (
            _case(
                "upgraded_on_worker",
                "running on a worker",
                "shinzo",
                Expected(tries=2),
                arguments=ON_WORKER,
            ),
        ),
    ),
    Scenario(let_it_complete, (_case("upgraded_deferred", "deferred", "shinzo"),)),
    Scenario(
        let_it_complete_meanwhile,
        (_case("upgraded_completed", "deferred, completed meanwhile", "lightcone", seconds=MEANWHILE),),
    ),
    Scenario(answer, (_case("upgraded_parked", "parked, then answered", "shinzo", RECEIVED_ONCE, **ASKING),)),
    Scenario(
        let_it_complete, _mapped("upgraded_mapped", "mapped, deferred", "shinzo", EXACTLY_ONE, EXACTLY_ONE)
    ),
    Scenario(
        clear_as_a_whole,
        _mapped(
            "upgraded_mapped_cleared",
            "mapped, deferred, then cleared as a whole",
            "lightcone",
            STOPPED_AND_ANEW,
            STOPPED_AND_ANEW,
            seconds=LONG,
            later_seconds=SHORT,
        ),
    ),
    Scenario(
        clear_the_first,
        _mapped(
            "upgraded_index_cleared",
            "mapped, deferred, then the first index cleared",
            "lightcone",
            STOPPED_AND_ANEW,
            EXACTLY_ONE,
            later_seconds=SHORT,
        ),
    ),
)


def build_scenarios(python: Path, airflow: Version) -> list[Scenario]:
    """
    Return the scenarios. Together they cause one upgrade, so a round must run all of them at the same time.

    :param python: The Python with the newer Airflow.
    :param airflow: The version of the newer Airflow.
    """
    upgrade = RehearsedUpgrade(python, airflow, len(SCENARIOS))
    return [Scenario(partial(scenario.drive, upgrade), scenario.cases) for scenario in SCENARIOS]
