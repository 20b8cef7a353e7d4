"""Cases in which a Lightcone event stream breaks, or something breaks while a worker follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab.faults.case_definition import LONG, Scenario, Steps, scenario
from lab.faults.cases.clears import STOPPED_AND_ANEW, start_over
from lab.faults.cases.users import SHORT, STOPPED_FAILED, mark_and_measure
from lab.faults.cases.workers import LONGER_THAN_CLIENTS_WAIT, MEDIUM, RETRIED
from lab.faults.our_case_run import OurCaseRun

STREAM = {"stream": True}
#: One call of a tool in each step: only the stream has these, so their lines in the log come from it.
CALLS_TOOLS = {"tool_calls": ["look"] * 10}
TOOL_LINE = "Tool: look"
#: Passes a budget after some seconds, and never ends by itself: on a busy machine, Airflow may look late.
WASTES = {"steps": 300, "step_seconds": LONG / 300, "usage": {"cost": 30.0}}
#: The operator's log lines when a stream fails.
STARTED_WITHOUT = "Starting without the stream, with the same"
BROKE_OFF = "The event stream broke off."
ENDED = "The event stream has ended."


def read_to_the_end(log_line: str = "") -> Callable[[OurCaseRun], Steps]:
    """Return a drive that lets the stream fail as scripted, and expects this line in the log."""

    def drive(run: OurCaseRun) -> Steps:
        run.start()
        yield from run.until_ended()
        run.check(log_line in run.read_logs(), f"the log does not say: {log_line}")

    return drive


def follow(run: OurCaseRun) -> Steps:
    """Start the DAG run, and wait until a worker logs the stream's events."""
    run.start()
    yield from run.until(lambda: TOOL_LINE in run.read_logs(), "a worker follows the stream")


def lose_worker_in_stream(run: OurCaseRun) -> Steps:
    """Kill the worker that follows the stream."""
    yield from follow(run)
    run.kill_worker()
    yield from run.until_ended()


def lose_worker_with_result(run: OurCaseRun) -> Steps:
    """Kill the worker that has the result from the stream, while its next status check is delayed."""
    yield from follow(run)
    run.sandbox.faults([{"method": "GET", "delay_seconds": LONGER_THAN_CLIENTS_WAIT}])
    yield from run.until(
        lambda: run.list_requests("GET", after=float(run.remote_tasks[-1]["ended_at"] or "inf")),
        "the worker checked the state after the completion",
    )
    run.kill_worker()
    yield from run.until_ended()


def mark_in_stream(run: OurCaseRun) -> Steps:
    """Mark the Airflow task as failed while a worker follows the stream."""
    yield from follow(run)
    yield from mark_and_measure(run, "failed")


def clear_in_stream(run: OurCaseRun) -> Steps:
    """Clear the Airflow task while a worker follows the stream."""
    yield from follow(run)
    run.clear()
    yield from start_over(run)


def pass_budget(run: OurCaseRun) -> Steps:
    """Let the agent pass its budget."""
    run.start()
    yield from run.until_stopped()
    yield from run.until_ended()
    run.check(len(run.stops) == 1, f"stopped {len(run.stops)} times")
    run.check("passed its budget" in run.read_logs(), "the log does not name the budget")


def build_broken_streams() -> tuple[Scenario, ...]:
    """Return the scenarios of streams that fail as scripted; the agent itself goes on to its end."""
    streams: tuple[tuple[str, str, Mapping[str, Any], str], ...] = (
        ("cut_before_first", "cut before the first event", {"cut_after": 0}, STARTED_WITHOUT),
        ("cut_in_first", "cut inside the first event", {"cut_after": 0.5}, STARTED_WITHOUT),
        ("cut_after_first", "cut after the first event", {"cut_after": 1}, BROKE_OFF),
        ("cut_in_later", "cut inside a later event", {"cut_after": 2.5}, BROKE_OFF),
        ("cut_before_completion", "cut before the completion", {"cut_before_completion": True}, BROKE_OFF),
        ("stalled", "stalls, the connection stays open", {"stall_after": 2}, ""),
        ("without_completion", "ends without a completion", {"omit_completion": True}, ENDED),
    )
    return tuple(
        scenario(
            read_to_the_end(log_line),
            f"stream_{name}",
            f"event stream {words}",
            "lightcone",
            arguments=STREAM,
            script={"stream": fault},
        )
        for name, words, fault, log_line in streams
    )


STREAM_SCENARIOS = (
    scenario(
        lose_worker_in_stream,
        "stream_worker_lost",
        "worker killed while it follows the event stream",
        "lightcone",
        RETRIED,
        seconds=MEDIUM,
        arguments=STREAM,
        script=CALLS_TOOLS,
    ),
    scenario(
        lose_worker_with_result,
        "stream_worker_lost_with_result",
        "worker killed after the event stream gave it the result",
        "lightcone",
        RETRIED,
        # No status check comes between, so the delayed one is the check after the completion.
        arguments={**STREAM, "poll_interval": 60},
        script=CALLS_TOOLS,
        streams_result=True,
    ),
    scenario(
        mark_in_stream,
        "stream_failed",
        "marked failed while a worker follows the event stream",
        "lightcone",
        STOPPED_FAILED,
        seconds=LONG,
        arguments=STREAM,
        script=CALLS_TOOLS,
    ),
    scenario(
        clear_in_stream,
        "stream_cleared",
        "cleared while a worker follows the event stream",
        "lightcone",
        STOPPED_AND_ANEW,
        seconds=LONG,
        later_seconds=SHORT,
        arguments=STREAM,
        script=CALLS_TOOLS,
        streams_result=True,
        retry_delay=LONG,
    ),
    scenario(
        pass_budget,
        "budget_streamed",
        "budget passed while a worker follows the event stream",
        "lightcone",
        STOPPED_FAILED,
        arguments={**STREAM, "budget": {"steps": 5}},
        script=WASTES,
    ),
    scenario(
        pass_budget,
        "budget_deferred",
        "budget passed while deferred",
        "shinzo",
        STOPPED_FAILED,
        arguments={"budget": {"cost": 0.5}},
        script=WASTES,
    ),
    *build_broken_streams(),
)
