"""Automatic replies: the operator's ``reply``, and ``input_default`` for when nobody answers in time."""

from __future__ import annotations

from collections.abc import Callable

from airflow_agent_tasks.lifecycle.question_form import MAX_REPLY, format_time
from airflow_agent_tasks.lifecycle.question_log import DEFAULT_ID, REPLY_ID, SEND, Reply
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.text import shorten


def call_reply(
    function: Callable[[str], str | None] | None, question: str, log: Log, *, clock: Callable[[], float]
) -> Reply | None:
    """Call the operator's ``reply``; return its reply, or None if it leaves the question open."""
    if function is None:
        return None
    name = getattr(function, "__name__", type(function).__name__)
    try:
        text = function(question)
    except Exception as error:  # raised by the user's code; someone can still answer
        log.warning("reply (%s) raised an exception: %s", name, shorten(repr(error), 500))
        return None
    reply = None if text is None else Reply(SEND, text, {"id": REPLY_ID, "name": name}, format_time(clock()))
    if reply and (fault := find_fault(reply)):
        log.warning("Ignored what reply (%s) returned: %s", name, fault)
        return None
    return reply


def build_default_reply(text: str | None, *, now: float) -> Reply | None:
    """Return the operator's ``input_default`` as a reply, or None if it has none."""
    if text is None:
        return None
    return Reply(SEND, text, {"id": DEFAULT_ID, "name": DEFAULT_ID}, format_time(now))


def find_fault(reply: Reply) -> str | None:
    """Return why a reply cannot be sent, or None."""
    if not isinstance(reply.text, str) or not reply.text.strip():
        return "it was empty."
    if len(reply.text) > MAX_REPLY:
        return f"it had {len(reply.text)} characters; the limit is {MAX_REPLY}."
    return None
