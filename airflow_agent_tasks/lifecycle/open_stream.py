"""What an execution remembers while it follows its agent task's event stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_agent_tasks.services.event_text import SentenceJoiner


@dataclass
class OpenStream:
    """
    The stream of an execution.

    :param last_event_at: When the last event arrived, in seconds since 1970.
    :param sentences: Joins the agent's words for the log.
    :param screenshots: How many screenshots have arrived.
    :param lines: How many lines it has written to the log.
    :param is_complete: True once an event said that the agent task has ended.
    """

    last_event_at: float
    sentences: SentenceJoiner = field(default_factory=SentenceJoiner)
    screenshots: int = 0
    lines: int = 0
    is_complete: bool = False
