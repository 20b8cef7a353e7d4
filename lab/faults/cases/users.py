"""Cases in which a user, or a time limit, ends or restarts the Airflow task."""

from __future__ import annotations

from collections.abc import Callable

from lab.faults.case_definition import LONG, ON_WORKER, Expected, Steps, scenario
from lab.faults.our_case_run import OurCaseRun

#: Seconds after the call to Airflow's API within which the remote task must be stopped.
STOP_LIMIT = 5.0


def mark(state: str) -> Callable[[OurCaseRun], Steps]:
    """Return a drive that marks the Airflow task while it waits."""

    def drive(run: OurCaseRun) -> Steps:
        yield from run.start_and_wait()
        yield from mark_and_measure(run, state)

    return drive


def mark_and_measure(run: OurCaseRun, state: str) -> Steps:
    """Mark the Airflow task, and measure how long it takes until the remote task is stopped."""
    yield from measure_stop(run, run.mark(state))


def measure_stop(run: OurCaseRun, marked_at: float) -> Steps:
    """Measure the time from a moment until the remote task is stopped."""
    yield from run.until_stopped()
    seconds = run.stops[0]["time"] - marked_at
    run.measure("stopped after", seconds)
    run.check(seconds <= STOP_LIMIT, f"stopped {seconds:.1f} s after the call, not within {STOP_LIMIT} s")
    yield from run.until_ended()


def retry_after_failure(run: OurCaseRun) -> Steps:
    """Let the first remote task fail."""
    run.start()
    yield from run.until_ended()


def retry_after_cancellation(run: OurCaseRun) -> Steps:
    """Cancel the first remote task behind Airflow's back."""
    yield from run.start_and_wait()
    run.cancel_remote_task()
    yield from run.until_ended()


def wait_for_time_limit(run: OurCaseRun) -> Steps:
    """Let a time limit pass."""
    run.start()
    yield from run.until_stopped()
    yield from run.until_ended()


SHORT = 6.0
STOPPED_FAILED = Expected(stopped=1, state="failed", results=0)
STOPPED_SUCCESS = Expected(stopped=1, state="success", results=0)
STOPPED_SKIPPED = Expected(stopped=1, state="skipped", results=0)
ANEW = Expected(started=2, tries=2)

USER_SCENARIOS = (
    scenario(
        mark("failed"),
        "failed_on_worker",
        "marked failed while running",
        "shinzo",
        STOPPED_FAILED,
        seconds=LONG,
        arguments=ON_WORKER,
    ),
    scenario(
        mark("failed"),
        "failed_deferred",
        "marked failed while deferred",
        "lightcone",
        STOPPED_FAILED,
        seconds=LONG,
    ),
    scenario(
        mark("success"),
        "success_on_worker",
        "marked success while running",
        "lightcone",
        STOPPED_SUCCESS,
        seconds=LONG,
        arguments=ON_WORKER,
    ),
    scenario(
        mark("success"),
        "success_deferred",
        "marked success while deferred",
        "shinzo",
        STOPPED_SUCCESS,
        seconds=LONG,
    ),
    scenario(
        retry_after_failure,
        "retry_after_failure",
        "retry after the remote task failed",
        "lightcone",
        ANEW,
        seconds=SHORT,
        first_exit_code=1,
    ),
    scenario(
        retry_after_cancellation,
        "retry_after_cancellation",
        "retry after it was cancelled elsewhere",
        "shinzo",
        ANEW,
        seconds=LONG,
        later_seconds=SHORT,
    ),
)

LIMIT_SCENARIOS = (
    scenario(
        wait_for_time_limit,
        "timeout_deferred",
        "timeout passes while deferred",
        "lightcone",
        STOPPED_FAILED,
        seconds=LONG,
        retries=0,
        arguments={"timeout": 10},
    ),
    scenario(
        wait_for_time_limit,
        "timeout_on_worker",
        "timeout passes on a worker",
        "shinzo",
        STOPPED_FAILED,
        seconds=LONG,
        retries=0,
        arguments={"timeout": 10, **ON_WORKER},
    ),
    scenario(
        wait_for_time_limit,
        "run_timeout_deferred",
        "DAG run's timeout while deferred",
        "shinzo",
        STOPPED_SKIPPED,
        seconds=LONG,
        run_timeout=30.0,
    ),
    scenario(
        wait_for_time_limit,
        "run_timeout_on_worker",
        "DAG run's timeout while running",
        "lightcone",
        STOPPED_SKIPPED,
        seconds=LONG,
        run_timeout=30.0,
        arguments=ON_WORKER,
    ),
)
