"""Cases in which a worker, or the response to a submit, is lost."""

from __future__ import annotations

from collections.abc import Generator

from lab.cluster.installed_airflow import IS_3_4_PLUS
from lab.faults.case_definition import LONG, ON_WORKER, Expected, Steps, scenario
from lab.faults.cases.users import mark_and_measure
from lab.faults.our_case_run import START_PATH, OurCaseRun

SUBMIT = {"method": "POST", "path": START_PATH}
#: Seconds: longer than any client waits.
LONGER_THAN_CLIENTS_WAIT = 120.0


def lose_worker_in_submit(run: OurCaseRun) -> Steps:
    """Kill the worker after the service has started the task, before its response arrives."""
    run.proxy.hold_responses()
    run.start()
    yield from run.until(lambda: run.remote_tasks, "the remote task was started")
    run.kill_worker()
    run.proxy.open()
    yield from run.until_ended()


def cut_submit(run: OurCaseRun) -> Steps:
    """Cut the connection after the service has started the task."""
    run.sandbox.faults([{**SUBMIT, "drop": "after"}])
    run.start()
    yield from run.until_ended()


def lose_worker_before_deferring(run: OurCaseRun) -> Steps:
    """Kill the worker during its first status check: it has stored the id, but has not deferred yet."""
    run.sandbox.faults([{"method": "GET", "delay_seconds": LONGER_THAN_CLIENTS_WAIT}])
    run.start()
    yield from run.until(lambda: run.list_requests("GET"), "the worker checked the state")
    run.kill_worker()
    yield from run.until_ended()


def lose_worker_while_waiting(run: OurCaseRun) -> Steps:
    """Kill the worker that waits."""
    yield from run.start_and_wait()
    run.kill_worker()
    yield from run.until_ended()


def lose_worker_in_last_try(run: OurCaseRun) -> Steps:
    """Kill the worker that waits, in the last try."""
    yield from run.start_and_wait()
    run.kill_worker()
    yield from run.until_stopped()
    yield from run.until_ended()


def lose_worker_between_tries(run: OurCaseRun) -> Steps:
    """Kill the worker that waits, and mark the task failed before its next try."""
    yield from run.start_and_wait()
    run.kill_worker()
    yield from run.until(lambda: run.task.state == "up_for_retry", "Airflow noticed the lost worker")
    yield from mark_and_measure(run, "failed")


def drain_worker(run: OurCaseRun) -> Steps:
    """
    Send SIGTERM to the worker that waits, as draining a machine does, and kill it a little later.

    Since Airflow 3.4, the worker lets its task continue, and does not notify it.
    """
    yield from run.start_and_wait()
    run.terminate_worker()
    if IS_3_4_PLUS:
        yield from run.until(lambda: WARM_SHUTDOWN in run.read_scheduler_log(), "the worker noticed")
    else:
        yield from run.until(lambda: IS_DRAINED in run.read_logs(), "the operator's on_kill was called")
    run.kill_worker()
    yield from run.until_ended()


def lose_worker_in_resume(run: OurCaseRun) -> Steps:
    """Kill the worker that fetches the result after the trigger's event, while its request is delayed."""
    yield from run.start_and_wait()
    end = yield from until_end_was_seen(run)
    seen = len(run.list_requests("GET", after=end))
    run.sandbox.faults([{"method": "GET", "delay_seconds": LONGER_THAN_CLIENTS_WAIT}])
    yield from run.until(
        lambda: len(run.list_requests("GET", after=end)) > seen, "the worker requested the result"
    )
    run.kill_worker()
    yield from run.until_ended()


def until_end_was_seen(run: OurCaseRun) -> Generator[None, None, float]:
    """Wait until the trigger has checked the ended remote task; return the time at which it ended."""

    def find_end() -> float:
        return float(run.remote_tasks[-1]["ended_at"] or "inf")

    yield from run.until(lambda: run.list_requests("GET", after=find_end()), "the trigger saw the end")
    return find_end()


#: The operator's log line when it leaves its agent task running for the next try.
IS_DRAINED = "This worker is being terminated"
#: The log line of a worker since Airflow 3.4.
WARM_SHUTDOWN = "warm shutdown in progress"
RETRIED = Expected(tries=2)
LOST_IN_SUBMIT = "worker killed while the submit is in flight"
CUT_SUBMIT = "submit's connection cut after the task was started"
#: Seconds: longer than Airflow takes to notice the missing heartbeats of a lost worker.
MEDIUM = 50.0

WORKER_SCENARIOS = (
    scenario(
        lose_worker_in_submit,
        "submit_lost_key",
        f"{LOST_IN_SUBMIT} (Lightcone: same key)",
        "lightcone",
        RETRIED,
        uses_fault_proxy=True,
    ),
    scenario(
        lose_worker_in_submit,
        "submit_lost_fail",
        f"{LOST_IN_SUBMIT} (Shinzo: fail)",
        "shinzo",
        # A task that may already exist is not started again, and its id is unknown.
        Expected(left_running=1, state="failed", tries=2, results=0),
        seconds=LONG,
        arguments={"on_uncertain_submit": "fail"},
        uses_fault_proxy=True,
    ),
    scenario(
        lose_worker_in_submit,
        "submit_lost_resubmit",
        f"{LOST_IN_SUBMIT} (Shinzo: resubmit)",
        "shinzo",
        Expected(started=2, tries=2),
        arguments={"on_uncertain_submit": "resubmit"},
        uses_fault_proxy=True,
    ),
    scenario(cut_submit, "submit_cut_key", f"{CUT_SUBMIT} (Lightcone: same key)", "lightcone"),
    scenario(
        cut_submit,
        "submit_cut_fail",
        f"{CUT_SUBMIT} (Shinzo: fail)",
        "shinzo",
        Expected(left_running=1, state="failed", results=0),
        seconds=LONG,
        arguments={"on_uncertain_submit": "fail"},
    ),
    scenario(
        cut_submit,
        "submit_cut_resubmit",
        f"{CUT_SUBMIT} (Shinzo: resubmit)",
        "shinzo",
        Expected(started=2),
        arguments={"on_uncertain_submit": "resubmit"},
    ),
    scenario(
        lose_worker_before_deferring,
        "worker_lost_before_deferring",
        "worker killed after the id was stored, before it deferred",
        "shinzo",
        RETRIED,
        seconds=MEDIUM,
    ),
    scenario(
        lose_worker_while_waiting,
        "worker_lost_waiting",
        "worker killed while it waits",
        "lightcone",
        RETRIED,
        seconds=MEDIUM,
        arguments=ON_WORKER,
    ),
    scenario(
        lose_worker_in_last_try,
        "worker_lost_in_last_try",
        "worker killed while it waits, in its last try",
        "shinzo",
        Expected(stopped=1, state="failed", results=0),
        seconds=LONG,
        arguments=ON_WORKER,
        retries=0,
    ),
    scenario(
        lose_worker_between_tries,
        "failed_between_tries",
        "worker killed, marked failed before the next try",
        "lightcone",
        Expected(stopped=1, state="failed", tries=None, results=0),
        seconds=LONG,
        retry_delay=LONG,
        arguments=ON_WORKER,
    ),
    scenario(
        drain_worker,
        "worker_drained",
        "worker gets SIGTERM while it waits (drained)",
        "shinzo",
        RETRIED,
        seconds=MEDIUM,
        arguments=ON_WORKER,
    ),
    scenario(
        lose_worker_in_resume,
        "worker_lost_in_resume",
        "worker killed in the resume method",
        "shinzo",
        RETRIED,
    ),
)
