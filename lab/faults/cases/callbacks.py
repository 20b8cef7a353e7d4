"""Cases in which the service calls Airflow: the call goes wrong, or comes at a bad moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lab.faults.case_definition import LONG, ON_WORKER, Expected, Steps, scenario
from lab.faults.cases.clears import STOPPED_AND_ANEW, start_over
from lab.faults.cases.questions import ANSWER, ASKING, QUESTION
from lab.faults.cases.users import ANEW
from lab.faults.cases.workers import LONGER_THAN_CLIENTS_WAIT, RETRIED, until_end_was_seen
from lab.faults.our_case_run import OurCaseRun

#: The operator's log line when a call has woken its task.
WOKEN = "The service called back."
#: Seconds to watch a call that must change nothing.
WATCH_SECONDS = 3.0
#: Seconds for the service to answer a task that is cleared meanwhile.
SLOW_SECONDS = 5.0


def check_wakes(run: OurCaseRun, wakes: int, max_status_checks: float = math.inf) -> None:
    """
    Check how often calls have woken the task, and how often Airflow has checked the agent task.

    :param max_status_checks: One for each wake, and one for the last trigger: if it is told late that it no
        longer waits, it looks whether it must stop the agent task.
    """
    seen, asked = run.read_logs().count(WOKEN), len(run.list_requests("GET"))
    run.check(seen == wakes, f"woken {seen} times, not {wakes}")
    run.check(asked <= max_status_checks, f"{asked} status checks, more than {max_status_checks}")


def check_deliveries(run: OurCaseRun, *statuses: str) -> Steps:
    """Wait for the service's calls, and check that they report these statuses and that Airflow took them."""
    yield from run.until(lambda: len(run.deliveries) >= len(statuses), "the service called")
    seen = [(delivery["body"]["status"], delivery.get("status")) for delivery in run.deliveries]
    run.check(seen == [(status, 202) for status in statuses], f"the service's calls: {seen}")


def lose_the_call(run: OurCaseRun) -> Steps:
    """Make no call at all."""
    run.start()
    yield from run.until_ended()
    check_wakes(run, 0)


def call_twice(run: OurCaseRun) -> Steps:
    """Make each call twice, at once."""
    yield from run.start_and_wait()
    yield from run.until_ended()
    yield from check_deliveries(run, "completed", "completed")
    check_wakes(run, 1, 2)


def call_before_the_deferral(run: OurCaseRun) -> Steps:
    """Call once, before the worker even knows the agent task's id; then the agent task ends."""
    run.start()
    yield from run.until_ended()
    check_wakes(run, 1, 2)


def call_after_the_end(run: OurCaseRun) -> Steps:
    """Call when the Airflow task has already ended."""
    run.start()
    yield from run.until_ended()
    status_checks = len(run.list_requests("GET"))
    run.call_back()
    yield from run.pause(WATCH_SECONDS)
    check_wakes(run, 0, status_checks)


def call_in_reverse(run: OurCaseRun) -> Steps:
    """Tell of the end first, and then of the question that ``reply`` has answered."""
    run.start()
    yield from run.until_ended()
    yield from check_deliveries(run, "completed", "awaiting_input")


def call_for_an_earlier_try(run: OurCaseRun) -> Steps:
    """Kill the woken task; the next try attaches to its agent task, which calls with the first try's URL."""
    yield from run.start_and_wait()
    run.sandbox.faults([{"method": "GET", "delay_seconds": LONGER_THAN_CLIENTS_WAIT}])
    run.call_back()
    yield from run.until(lambda: run.list_requests("GET"), "the woken task asked the service")
    run.kill_task_process()
    yield from run.until(lambda: run.is_waited_for and run.task.tries == 2, "the next try waits")
    yield from run.until_ended(tries=2)
    # By the killed process, twice by the next try before it waits, and after the second call.
    check_wakes(run, 2, 5)


def call_for_an_earlier_submission(run: OurCaseRun) -> Steps:
    """Let the first agent task fail, and call for it once more while the next try waits for another one."""
    run.start()
    yield from run.until(lambda: run.is_waited_for and run.task.tries == 2, "the next try waits")
    status_checks = len(run.list_requests("GET"))
    run.call_back(0)
    yield from run.pause(WATCH_SECONDS)
    check_wakes(run, 1, status_checks)
    yield from run.until_ended(tries=2)
    check_wakes(run, 2, status_checks + 2)


def answer_elsewhere(run: OurCaseRun) -> Steps:
    """Answer on the service while the task is parked."""
    run.start()
    yield from run.until_asked()
    run.message_remote_task("Red.")
    yield from run.until_ended()


def cancel_elsewhere(run: OurCaseRun) -> Steps:
    """Cancel the agent task on the service while the Airflow task is parked."""
    run.start()
    yield from run.until_asked()
    run.cancel_remote_task()
    yield from run.until_ended()


def call_beside_a_clear(run: OurCaseRun) -> Steps:
    """Call right after the clear; the old agent task calls once more when it is stopped."""
    yield from run.start_and_wait()
    run.clear()
    run.call_back()
    yield from start_over(run)
    check_wakes(run, 1)


def clear_while_resuming(run: OurCaseRun) -> Steps:
    """Wake the task in vain, and clear it while a worker resumes it."""
    yield from run.start_and_wait()
    run.sandbox.faults([{"method": "GET", "times": 1, "delay_seconds": SLOW_SECONDS}])
    run.call_back()
    yield from run.until(lambda: run.list_requests("GET"), "the woken task asked the service")
    run.clear()
    yield from start_over(run)


def call_beside_the_trigger(run: OurCaseRun) -> Steps:
    """Call twice at the moment when the trigger has seen the end and fires."""
    yield from run.start_and_wait()
    yield from until_end_was_seen(run)
    for _ in range(2):
        run.call_back()
    yield from run.until_ended()


CALLED_BACK: Mapping[str, Any] = {"callback_mode": "webhook", "poll_interval": None}
#: Does not rely on callbacks: a status check every few seconds.
POLLED: Mapping[str, Any] = {**CALLED_BACK, "poll_interval": 3}
#: The script of an agent task whose calls the case makes.
SILENT: Mapping[str, Any] = {"callbacks": "never"}
SHORT = 6.0
#: The agent task from before a clear works long, and a retry would come too late.
CLEARED: Mapping[str, Any] = {
    "seconds": LONG,
    "later_seconds": SHORT,
    "retry_delay": LONG,
    "arguments": CALLED_BACK,
}
CALLBACK_SCENARIOS = (
    scenario(
        call_for_an_earlier_try,
        "callback_for_earlier_try",
        "called back for an earlier try, whose agent task the retry attached to",
        "shinzo",
        RETRIED,
        seconds=40.0,
        arguments=CALLED_BACK,
    ),
    scenario(
        call_for_an_earlier_submission,
        "callback_for_earlier_submission",
        "called back late for a failed agent task, while a retry waits for the next one",
        "shinzo",
        ANEW,
        seconds=SHORT,
        later_seconds=20.0,
        first_exit_code=1,
        arguments=CALLED_BACK,
    ),
    scenario(
        call_beside_a_clear,
        "callback_beside_clear",
        "called back for the old agent task after a clear",
        "shinzo",
        STOPPED_AND_ANEW,
        **CLEARED,
    ),
    scenario(
        clear_while_resuming,
        "callback_cleared_while_resuming",
        "cleared while a worker resumes the task after a callback in vain",
        "shinzo",
        STOPPED_AND_ANEW,
        **CLEARED,
    ),
    scenario(
        lose_the_call,
        "callback_lost",
        "callback lost",
        "shinzo",
        arguments=POLLED,
        script=SILENT,
    ),
    scenario(
        call_twice,
        "callback_twice",
        "called back twice",
        "shinzo",
        arguments=CALLED_BACK,
        script={"callbacks": "twice"},
    ),
    scenario(
        call_before_the_deferral,
        "callback_early",
        "called back before it defers",
        "shinzo",
        seconds=0.0,
        arguments=CALLED_BACK,
        script={"callbacks": "early"},
    ),
    scenario(
        call_after_the_end,
        "callback_late",
        "called back after its end",
        "shinzo",
        seconds=SHORT,
        arguments=POLLED,
        script=SILENT,
    ),
    scenario(
        call_in_reverse,
        "callback_reversed",
        "called back for the end, then for a question before it",
        "shinzo",
        Expected(received=(ANSWER,)),
        ask=(QUESTION,),
        arguments={**POLLED, "reply": ANSWER},
        script={"callbacks": "reversed"},
    ),
    scenario(
        call_beside_the_trigger,
        "callback_beside_trigger",
        "called back twice as its trigger fires",
        "shinzo",
        arguments={**CALLED_BACK, "poll_interval": 1},
        script=SILENT,
    ),
    scenario(
        answer_elsewhere,
        "callback_answered_elsewhere",
        "answered on the service while parked, which calls back",
        "shinzo",
        Expected(asked=1, received=("Red.",)),
        arguments=CALLED_BACK,
        **ASKING,
    ),
    scenario(
        cancel_elsewhere,
        "callback_cancelled_elsewhere",
        "cancelled on the service while parked, which calls back",
        "shinzo",
        Expected(state="failed", asked=1, results=0),
        retries=0,
        arguments={**CALLED_BACK, **ON_WORKER},
        **ASKING,
    ),
)
