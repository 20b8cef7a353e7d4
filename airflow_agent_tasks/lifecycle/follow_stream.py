"""
Follows the event stream of an agent task on the worker: each event is a log line at once.

The stream only shows the agent at work. The status decides, as without a stream: it is checked at the same
intervals, and at once when an event says that the agent asks or has ended. So a stream that breaks, stalls or
ends early costs log lines, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.lifecycle.artifacts import keep_files, push_artifacts
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
from airflow_agent_tasks.services.usage import list_passed

#: Seconds for the last events of an agent task that has ended.
MAX_LEFT = 10.0
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
            for event in events:
                if (yield from _take(execution, service, stream, event)):
                    # Not at every such event: a stream may repeat what the status denies.
                    check_at = min(check_at, checked_at + MIN_CHECK_INTERVAL)
        if now >= check_at:
            decision = yield from check(execution)
            checked_at = yield from ReadClock()
            check_at = checked_at + decision.seconds
    return decision


def finish_stream(execution: Execution, service: Dialect) -> Flow[None]:
    """Read what is left of the stream of an agent task that has ended, such as its result."""
    end_at = (yield from ReadClock()) + MAX_LEFT
    stream = execution.stream
    while stream and not stream.is_complete and (now := (yield from ReadClock())) < end_at:
        try:
            events = yield from NextEvents(end_at - now)
        except AgentTaskCancelledError:
            raise
        except AgentTaskError as error:
            yield from warning("The event stream broke off. %s", error)
            return
        for event in events or ():
            yield from _take(execution, service, stream, event)
        if not events:
            return


def end_stream(execution: Execution) -> Flow[None]:
    """Close the stream, log the agent's last words and keep the transcript."""
    if stream := execution.stream:
        execution.stream = None
        yield from _flush(stream)
        if transcript := (yield from EndStream()):
            execution.artifacts.add(transcript)
        yield from push_artifacts(execution)


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
    if found.is_completion:
        event = yield from _take_result(execution, stream, event)
    event = yield from keep_files(execution, event, found.kind)
    yield from RecordEvent(event)
    for line in stream.sentences.add(found.delta) if found.delta else ():
        yield from _log(stream, f"Agent: {line}")
    is_settled = found.task and (found.task.is_terminal or found.task.status is TaskState.AWAITING_INPUT)
    if found.is_completion or is_settled:
        yield from _flush(stream)  # the agent's words, before what the event says
    if found.line:
        yield from _log(stream, found.line)
    if found.task_id not in (None, started.agent_task_id):
        return False  # about another agent task
    execution.streamed.progress = found.progress or execution.streamed.progress
    execution.streamed.usage = found.usage or execution.streamed.usage
    if found.is_completion or is_settled:
        return True
    return bool(found.progress or found.usage) and (yield from _push_progress(execution, stream))


def _take_result(execution: Execution, stream: OpenStream, event: dict[str, Any]) -> Flow[dict[str, Any]]:
    """Save the result, and return the event without the files in it: the outcome keeps or refuses those."""
    result = event.get("result")
    # Only once: a stream may repeat it, and each save rewrites the record.
    if not stream.is_complete and result is not None:
        execution.streamed.result = result
        # Lightcone's status has no result, so a worker lost from here on would lose it.
        yield from warn_on_failure(execution.mark(result=result))
    stream.is_complete = True
    return event if result is None else {**event, "result": drop_files(result)}


def _push_progress(execution: Execution, stream: OpenStream) -> Flow[bool]:
    """Push what the agent task has done and used, at a pace; return whether it is more than its budget."""
    known, streamed = execution.last_task, execution.streamed
    if known is None:
        return False
    # The state comes from the status only: an event may be older than it.
    task = replace(known, progress=streamed.progress or known.progress, usage=streamed.usage or known.usage)
    execution.last_task = task
    if stream.pace.take(now=(yield from ReadClock())):
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
