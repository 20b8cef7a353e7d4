"""
Follows the event stream of an agent task on the worker: each event is a log line at once.

The stream only shows the agent at work. The status decides, as without a stream: it is checked at the same
intervals, and at once when an event says that the agent asks or has ended. So a stream that breaks, stalls or
ends early costs log lines, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_agent_tasks.agent_task import Progress, TaskState
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.lifecycle.artifacts import keep_files
from airflow_agent_tasks.lifecycle.check_status import check
from airflow_agent_tasks.lifecycle.commands import (
    Flow,
    PushTask,
    ReadClock,
    info,
    warn_on_failure,
    warning,
)
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.open_stream import OpenStream
from airflow_agent_tasks.lifecycle.stream_commands import EndStream, NextEvents, RecordEvent
from airflow_agent_tasks.lifecycle.wait_policy import Decision
from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.embedded_files import drop_files
from airflow_agent_tasks.services.stream_events import read_event
from airflow_agent_tasks.services.usage import list_passed, read_usage

#: Seconds for the last events of an agent task that has ended.
MAX_LEFT = 10.0
#: Seconds without an event after which the execution waits without the stream, and may leave the worker.
MAX_SILENCE = 120.0
#: Seconds between two status checks that the stream asks for.
MIN_CHECK_INTERVAL = 1.0
#: Lines of one stream in the log: a stream may never end, but the disk of the log does.
MAX_LINES = 20_000


def follow_stream(execution: Execution, service: Dialect, decision: Decision) -> Flow[Decision]:
    """
    Log the events until the stream is over or the status decides not to wait; return the last decision.

    :param execution: The execution, which has an open stream.
    :param service: The dialect of the service.
    :param decision: The decision of the last status check, which is to wait.
    """
    stream = execution.stream
    checked_at = yield from ReadClock()
    check_at = checked_at + decision.seconds
    while stream and decision.waits:
        now = yield from ReadClock()
        if now < check_at:
            try:
                events = yield from NextEvents(check_at - now)
            except AgentTaskCancelledError:
                raise
            except AgentTaskError as error:
                yield from warning("The event stream broke off. %s", error)
                return (yield from _wait_without_stream(execution))
            if events is None:
                yield from info("The event stream has ended.")
                return (yield from _wait_without_stream(execution))
            now = yield from ReadClock()
            if events:
                stream.last_event_at = now
            for event in events:
                if (yield from _take(execution, service, stream, event)):
                    # Not at every such event: a stream may repeat what the status denies.
                    check_at = min(check_at, checked_at + MIN_CHECK_INTERVAL)
        if now >= check_at:
            decision = yield from check(execution)
            checked_at = yield from ReadClock()
            check_at = checked_at + decision.seconds
        if decision.waits and now - stream.last_event_at >= MAX_SILENCE:
            yield from warning("The event stream has been silent for %.0f s.", MAX_SILENCE)
            yield from end_stream(execution)
            return decision
    return decision


def finish_stream(execution: Execution, service: Dialect) -> Flow[None]:
    """Read what is left of the stream of an agent task that has ended, such as its result, and end it."""
    end_at = (yield from ReadClock()) + MAX_LEFT
    stream = execution.stream
    while stream and not stream.is_complete and (now := (yield from ReadClock())) < end_at:
        try:
            events = yield from NextEvents(end_at - now)
        except AgentTaskError as error:
            yield from warning("The event stream broke off. %s", error)
            break
        for event in events or ():
            yield from _take(execution, service, stream, event)
        if not events:
            break
    yield from end_stream(execution)


def end_stream(execution: Execution) -> Flow[None]:
    """Close the stream, log the agent's last words and keep the transcript."""
    if stream := execution.stream:
        execution.stream = None
        yield from _flush(stream)
        if transcript := (yield from EndStream()):
            execution.artifacts.add(transcript)


def _wait_without_stream(execution: Execution) -> Flow[Decision]:
    yield from end_stream(execution)
    return (yield from check(execution, retries=True))


def _take(execution: Execution, service: Dialect, stream: OpenStream, event: dict[str, Any]) -> Flow[bool]:
    """Log, record and keep what an event has; return whether it calls for a status check."""
    started = execution.started
    found = read_event(
        event,
        service,
        task_id=started.agent_task_id,
        agent_id=started.agent_id,
        screenshots=stream.screenshots,
    )
    stream.screenshots += found.screenshots
    stream.is_complete |= found.is_completion
    if found.is_completion:
        event = yield from _take_result(execution, event)
    if execution.settings.artifacts_path:
        event = yield from keep_files(execution, event, found.kind)
    yield from RecordEvent(event)
    for line in stream.sentences.add(found.delta) if found.delta else ():
        yield from _log(stream, f"Agent: {line}")
    if found.line:
        yield from _log(stream, found.line)
    is_settled = found.task and (found.task.is_terminal or found.task.status is TaskState.AWAITING_INPUT)
    if found.is_completion or is_settled:
        yield from _flush(stream)
        execution.streamed_usage = read_usage(event) or execution.streamed_usage
        return True
    return (yield from _take_progress(execution, found.progress, read_usage(event)))


def _take_result(execution: Execution, event: dict[str, Any]) -> Flow[dict[str, Any]]:
    """Save the result, and return the event without the files in it: the outcome keeps or refuses those."""
    if event.get("result") is None:
        return event
    # Lightcone's status has no result, so a worker lost from here on would lose it.
    yield from warn_on_failure(execution.mark(result=event["result"]))
    return {**event, "result": drop_files(event["result"])}


def _take_progress(
    execution: Execution, progress: Progress | None, usage: Mapping[str, Any] | None
) -> Flow[bool]:
    """Push what the agent task has done and used; return whether that is more than its budget."""
    known = execution.last_task
    if known is None or not (progress or usage):
        return False
    execution.streamed_usage = usage or execution.streamed_usage
    execution.streamed_progress = progress or execution.streamed_progress
    # The state comes from the status only: an event may be older than it.
    task = replace(known, progress=progress or known.progress, usage=execution.streamed_usage or known.usage)
    execution.last_task = task
    yield from PushTask(task)
    return bool(list_passed(task, execution.settings.budget or {}))


def _flush(stream: OpenStream) -> Flow[None]:
    for line in stream.sentences.flush():
        yield from _log(stream, f"Agent: {line}")


def _log(stream: OpenStream, line: str) -> Flow[None]:
    stream.lines += 1
    if stream.lines <= MAX_LINES:
        yield from info("%s", line)
    elif stream.lines == MAX_LINES + 1:
        yield from warning("The event stream has written %s lines; the log leaves the others out.", MAX_LINES)
