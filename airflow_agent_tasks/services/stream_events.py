"""
What an event of a stream means: the state it reports, the text it carries, and its line for the task's log.

The services name only four types of event (``progress_update``, ``screenshots``, ``completion`` and
``error``) and document no keys. So every key may be missing or have another form, and unknown types are
described too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, Progress
from airflow_agent_tasks.services import response_values
from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.event_lines import describe, find_tool
from airflow_agent_tasks.services.http import is_usable_id
from airflow_agent_tasks.services.usage import read_usage
from airflow_agent_tasks.text import shorten

COMPLETION = "completion"
#: The limit of a delta's text, in characters: a few words are common, but a service may send all at once.
MAX_DELTA = 64 * 1024
#: Words in the type of an event that may report the agent task's state. Others may have a status and an exit
#: code of their own, such as those of a command that the agent ran.
_STATE_WORDS = ("progress", COMPLETION, "error", "status", "state", "question", "input")
_SCREENSHOT_KEYS = ("screenshots", "screenshot", "screenshot_url", "images", "image")
_FILE_KEYS = ("files", "file", "attachments", "artifacts", "downloads")
_PROGRESS_KEYS = ("current_step", "steps_completed", "total_steps")
_PERCENT_KEYS = ("percent", "percentage", "progress")


@dataclass(frozen=True)
class StreamEvent:
    """
    One event of a stream, read.

    :param kind: Its type, shortened; "" if it has none.
    :param task_id: The id of the agent task it names, if it is usable.
    :param is_completion: True if it says that the agent task has ended.
    :param task: The agent task as the event describes it, or None if the event has no state.
    :param progress: The progress it reports, also without a state.
    :param usage: The usage it reports, also without a state, see ``read_usage``. Whether it counts from the
        start or is that of one step is the service's choice.
    :param delta: A piece of the agent's text, to be joined with the pieces before and after it.
    :param screenshots: How many screenshots it has.
    :param line: Its line for the task's log, safe and of at most 500 characters, or None if there is nothing
        to say, as for a delta.
    """

    kind: str
    task_id: str | None = None
    is_completion: bool = False
    task: AgentTask | None = None
    progress: Progress | None = None
    usage: Mapping[str, Any] | None = None
    delta: str = ""
    screenshots: int = 0
    line: str | None = None


def read_event(
    event: Mapping[str, Any],
    dialect: Dialect,
    *,
    task_id: str | None = None,
    agent_id: str | None = None,
    screenshots: int = 0,
) -> StreamEvent:
    """
    Read an event.

    :param event: The event, as ``EventStreamParser`` returns it. Nothing in it is trusted.
    :param dialect: The service's dialect, for its status words.
    :param task_id: The id of the stream's agent task, if it is known. Default None. The state of another
        agent task is ignored.
    :param agent_id: The agent that runs it, on services that have agents. Default None.
    :param screenshots: How many screenshots earlier events had, to number those of this one. Default 0.
    """
    kind = shorten(response_values.text(event.get("type")) or "", 60)
    inner = event.get("progress")
    inner = inner if isinstance(inner, dict) else event
    images = _find_entries(event, _SCREENSHOT_KEYS)
    own_id = _read_id(event, task_id)
    is_ours = task_id is None or own_id is None or own_id == task_id
    task = None
    if is_ours and (known_id := task_id or own_id) and _may_have_state(event, kind):
        reply = {**event, "progress": inner if _has_progress(inner) else None}
        task = dialect.read_task(reply, task_id=known_id, agent_id=agent_id)
    progress = task.progress if task else response_values.progress(inner if _has_progress(inner) else None)
    usage = task.usage if task else read_usage(event) if is_ours else None
    line = None
    if "delta" not in event:  # ten thousand of these may have the same step
        numbers = range(screenshots + 1, screenshots + 1 + len(images))
        files = _find_entries(event, _FILE_KEYS) or _find_entries(event.get("result"), _FILE_KEYS)
        percent = _read_percent(event, inner)
        line = describe(event, kind, progress=progress, percent=percent, screenshots=numbers, files=files)
    return StreamEvent(
        kind=kind,
        task_id=own_id,
        is_completion=is_ours and kind.lower() == COMPLETION,
        task=task,
        progress=progress,
        usage=usage,
        delta=_read_delta(event.get("delta")),
        screenshots=len(images),
        line=line,
    )


def _read_id(event: Mapping[str, Any], known_id: str | None) -> str | None:
    found = response_values.identifier(event.get("task_id"))
    # Compared first: ten thousand events may have the same id.
    return found if found is not None and (found == known_id or is_usable_id(found)) else None


def _may_have_state(event: Mapping[str, Any], kind: str) -> bool:
    has_state = (
        response_values.text(event.get("status")) is not None
        or response_values.integer(event.get("exit_code")) is not None
    )
    is_about_task = not kind or any(word in kind.lower() for word in _STATE_WORDS)
    return has_state and is_about_task and find_tool(event, kind) is None


def _has_progress(inner: Mapping[str, Any]) -> bool:
    return not inner.keys().isdisjoint(_PROGRESS_KEYS)


def _read_percent(event: Mapping[str, Any], inner: Mapping[str, Any]) -> int | None:
    """
    Return a percentage, 0 to 100.

    ``percent`` and ``percentage`` are 0 to 100, or a share if they are between 0 and 1. ``progress`` is a
    share up to and including 1, and 0 to 100 above it.
    """
    if event.keys().isdisjoint(_PERCENT_KEYS) and inner.keys().isdisjoint(_PERCENT_KEYS):
        return None
    for key in _PERCENT_KEYS:
        for level in (inner, event):
            value = level.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
                is_share = value < 1 or (value == 1 and key == "progress")
                return round(100 * value if is_share else value)
    return None


def _read_delta(delta: Any) -> str:
    if isinstance(delta, dict):
        delta = delta.get("text") or delta.get("content")
    return delta[:MAX_DELTA] if isinstance(delta, str) else ""


def _find_entries(level: Any, keys: tuple[str, ...]) -> list[Any]:
    """Return the screenshots or files of an event or result: the entries of the first key that has any."""
    if not isinstance(level, dict) or level.keys().isdisjoint(keys):
        return []
    for key in keys:
        value = level.get(key)
        if isinstance(value, list) and value:
            return value
        if isinstance(value, str | dict) and value:
            return [value]
    return []
