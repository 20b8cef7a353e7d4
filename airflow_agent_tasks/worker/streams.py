"""Performs the lifecycle's stream commands: one open stream, read by a thread, and its transcript."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRejectedError, AgentTaskUncertainError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.event_batches import EventBatches
from airflow_agent_tasks.lifecycle.artifact import Artifact
from airflow_agent_tasks.lifecycle.commands import Command
from airflow_agent_tasks.lifecycle.stream_commands import EndStream, NextEvents, RecordEvent, StreamTask
from airflow_agent_tasks.services.http import MAY_HAVE_ACTED
from airflow_agent_tasks.services.stream_events import read_event
from airflow_agent_tasks.worker.transcripts import TranscriptKeeper

#: Seconds until an event must have named the agent task.
MAX_WAIT_FOR_ID = 60.0
#: So many events may come before it.
MAX_EARLY = 100
#: Seconds between two looks for a kill.
KILL_CHECK_INTERVAL = 1.0

_Batch = list[dict[str, Any]]


class Streams:
    """
    The event stream of one execution.

    :param find_hook: Returns the hook of the service.
    :param transcripts: Keeps the events.
    :param check_not_killed: Raises AgentTaskCancelledError once a kill has stopped the agent task.
    """

    def __init__(
        self,
        find_hook: Callable[[], AgentTaskHook],
        transcripts: TranscriptKeeper,
        check_not_killed: Callable[[], None],
    ) -> None:
        self._find_hook = find_hook
        self._transcripts = transcripts
        self._check_not_killed = check_not_killed
        self._reader: _Reader | None = None
        #: The events that arrived before one named the agent task, and that one.
        self._early: _Batch = []

    def perform(self, command: Command[Any]) -> Any:
        """Perform one command, and return its result."""
        match command:
            case StreamTask():
                return self._start(command)
            case NextEvents(seconds):
                return self._next_events(seconds)
            case RecordEvent(event):
                return self._transcripts.add(event)
            case EndStream():
                return self.end()
        raise TypeError(f"{type(command).__name__} is not a command for a stream")

    def redact(self, text: str) -> str:
        """Return a text, joined from the events of the open stream, without the connection's secrets."""
        return text if self._reader is None else self._reader.redact(text)

    def end(self) -> Artifact | None:
        """Close the stream, keep the transcript, and return its file, if it has one."""
        if self._reader is None:
            return None
        self._reader.close()
        self._reader = None
        return self._transcripts.keep()

    def _start(self, command: StreamTask) -> AgentTask:
        self.end()  # of an earlier agent task
        hook = self._find_hook()
        # A client of its own: this thread goes on to check the status.
        fork = hook.fork()
        self._early = []
        reader = _Reader(fork.open_stream(agent_id=command.agent_id, **command.fields))
        try:
            task = self._read_task(reader, hook, hook.resolve_agent_id(command.agent_id))
        except BaseException:
            reader.close()
            raise
        self._reader = reader
        return task

    def _read_task(self, reader: _Reader, hook: AgentTaskHook, agent_id: str | None) -> AgentTask:
        dialect, deadline = hook.dialect, time.monotonic() + MAX_WAIT_FOR_ID
        while len(self._early) < MAX_EARLY and (batch := self._read_first(reader, deadline)):
            self._early += batch
            for event in batch:
                found = read_event(event, dialect, agent_id=agent_id)
                if found.task:
                    return self._name(replace(found.task, reused=event.get("reused") is True))
                if found.task_id:
                    service = dialect.service
                    return self._name(AgentTask(service, found.task_id, TaskState.UNKNOWN, agent_id=agent_id))
        raise AgentTaskUncertainError(
            f"The event stream of {dialect.title} did not name its agent task. {MAY_HAVE_ACTED}"
        )

    def _name(self, task: AgentTask) -> AgentTask:
        self._transcripts.begin(task.task_id)
        return task

    def _read_first(self, reader: _Reader, deadline: float) -> _Batch | None:
        try:
            return reader.read(max(0.0, deadline - time.monotonic()))
        except (AgentTaskRejectedError, AgentTaskUncertainError):
            raise
        except AgentTaskError as error:
            if error.is_transient or error.is_final:
                raise
            raise AgentTaskUncertainError(f"{error} {MAY_HAVE_ACTED}") from None

    def _next_events(self, seconds: float) -> _Batch | None:
        if self._early:
            events, self._early = self._early, []
            return events
        if self._reader is None:
            return None
        deadline = time.monotonic() + seconds
        while True:
            self._check_not_killed()
            left = max(0.0, deadline - time.monotonic())
            events_or_end = self._reader.read(min(left, KILL_CHECK_INTERVAL))
            if events_or_end or events_or_end is None or left <= KILL_CHECK_INTERVAL:
                return events_or_end


class _Reader:
    """
    Reads a stream in a thread, so that the worker waits for an event and for its next status check at once.

    A socket that has timed out cannot be read further, so timeouts alone would not do.
    """

    def __init__(self, batches: EventBatches) -> None:
        self._batches = batches
        # At most one list waits: an event may have a screenshot of megabytes.
        self._queue: queue.Queue[_Batch | AgentTaskError | None] = queue.Queue(maxsize=1)
        self._is_closed = False
        self._thread = Thread(target=self._read, name="agent task events", daemon=True)
        self._thread.start()

    def read(self, seconds: float) -> _Batch | None:
        """Return the next list of events; an empty one after that many seconds, None at the end."""
        try:
            item = self._queue.get(timeout=seconds)
        except queue.Empty:
            return []
        if isinstance(item, AgentTaskError):
            raise item
        return item

    def redact(self, text: str) -> str:
        """Return a text without the connection's secrets."""
        return self._batches.redact(text)

    def close(self) -> None:
        """Cut the connection, and end the thread."""
        self._is_closed = True
        self._batches.close()
        # The thread may be waiting for room: it puts at most one more item.
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def _read(self) -> None:
        end: AgentTaskError | None = None
        try:
            for batch in self._batches:
                self._queue.put(batch)
                if self._is_closed:
                    return
        except AgentTaskError as error:
            end = error
        except Exception as error:  # the worker would wait for an event that never comes
            end = AgentTaskError(f"Reading the event stream failed: {error!r}")
        self._queue.put(end)
