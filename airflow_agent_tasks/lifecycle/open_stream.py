"""What an execution remembers of its agent task's event stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_agent_tasks.agent_task import Progress
from airflow_agent_tasks.lifecycle.pace import Pace
from airflow_agent_tasks.services.event_text import SentenceJoiner


@dataclass
class OpenStream:
    """
    The stream that an execution follows.

    :param sentences: Joins the agent's words for the log.
    :param screenshots: How many screenshots have arrived.
    :param lines: How many lines it has written to the log.
    :param is_complete: True once an event said that the agent task has ended.
    :param pace: The pace of pushes to XCom.
    """

    sentences: SentenceJoiner
    screenshots: int = 0
    lines: int = 0
    is_complete: bool = False
    pace: Pace = field(default_factory=Pace)


@dataclass
class Streamed:
    """
    What the stream has reported last, which the status may lack.

    :param progress: The progress.
    :param usage: What the agent task has used.
    :param result: Its result, with the files in it.
    """

    progress: Progress | None = None
    usage: Mapping[str, Any] | None = None
    result: Any = None
