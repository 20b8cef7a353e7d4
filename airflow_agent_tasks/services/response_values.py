"""Tolerant readers of untrusted JSON: each accepts any value and returns a bounded one, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_agent_tasks.agent_task import Progress
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, MAX_INTEGER
from airflow_agent_tasks.text import shorten

MAX_TEXT = 1_000
#: Questions may be long, but end up in a form, a log and a database row.
MAX_QUESTION = 10_000
#: Possible keys of the question: Shinzo documents that a task may await input, but not which field contains
#: the question.
QUESTION_KEYS = ("question", "prompt", "input_request", "message")
NO_QUESTION = "The agent waits for input but did not say what it wants to know."


def text(value: Any, limit: int = MAX_TEXT) -> str | None:
    """Return non-empty text, a whole number as text, or None."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # parse_json has already turned integers too long for this into text
    return value[:limit] if isinstance(value, str) and value.strip() else None


def identifier(value: Any) -> str | None:
    """Return non-empty text, or a whole number as text, in full: a shortened id would name another task."""
    return text(value, limit=MAX_BODY_BYTES)


def integer(value: Any) -> int | None:
    """Return a whole number, also for ``3.0`` and ``"3"``, or None."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    is_whole = isinstance(value, str) or number == value
    return number if is_whole and abs(number) <= MAX_INTEGER else None


def progress(value: Any) -> Progress | None:
    """Return the progress in a response, or None."""
    if value is None or not isinstance(value, Mapping):
        return None
    return Progress(
        current_step=text(value.get("current_step")),
        steps_completed=integer(value.get("steps_completed")),
        total_steps=integer(value.get("total_steps")),
    )


def question(reply: Mapping[str, Any]) -> str:
    """Return the agent's question: the first text in the response or its progress, else NO_QUESTION."""
    inner = reply.get("progress")
    inner = inner if isinstance(inner, Mapping) else {}
    candidates = [level.get(key) for level in (reply, inner) for key in QUESTION_KEYS]
    candidates.append(inner.get("current_step"))
    for candidate in candidates:
        if found := text(candidate, MAX_QUESTION):
            return found
    return NO_QUESTION


def error_message(reply: Any) -> str | None:
    """Return the bounded message of an error response: its ``error``, ``message`` or ``detail``."""
    for _ in range(2):
        if isinstance(reply, list) and reply:
            reply = reply[0]
        if not isinstance(reply, Mapping):
            break
        reply = next((reply[key] for key in ("error", "message", "detail", "msg") if reply.get(key)), None)
    return shorten(reply) if isinstance(reply, str) else None
