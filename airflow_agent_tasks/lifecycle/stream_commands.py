"""The commands that start an agent task through its service's event stream, and follow the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.lifecycle.artifact import Artifact
from airflow_agent_tasks.lifecycle.commands import Command


class StreamTask(Command[AgentTask], frozen=True):
    """
    Start an agent task through the stream, and return it once an event has named it.

    The stream stays open. Fails with AgentTaskUncertainError if it ended before an event named the task.
    """

    agent_id: str | None
    fields: Mapping[str, Any]


class NextEvents(Command[list[dict[str, Any]] | None], frozen=True):
    """
    Return the events that arrive together next; an empty list after that many seconds, None at the end.

    Fails with AgentTaskError if the stream breaks off, and with AgentTaskCancelledError once a kill has
    stopped the agent task.
    """

    seconds: float


class RecordEvent(Command[None], frozen=True):
    """Add an event, without its files, to the transcript. Never fails."""

    event: dict[str, Any]


class EndStream(Command[Artifact | None], frozen=True):
    """Close the stream, keep the transcript and return its file, if it has one. Never fails."""
