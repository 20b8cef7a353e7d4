"""The event with which the trigger resumes its task; the two may run different versions of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.question_log import Seconds
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.text import shorten


class _Event(msgspec.Struct):
    """The trusted fields of an event."""

    agent_task_id: str
    agent_id: str | None
    started_at: Seconds
    verdict: Verdict
    error: str | None = None
    is_final: bool = False


def build_event(
    started: StartedTask, decision: Decision, *, try_number: int | None = None, is_pushed: bool = False
) -> dict[str, Any]:
    """
    Return the event's payload; ``read_event``, ``read_try_number`` and ``read_is_pushed`` read it.

    :param is_pushed: Whether XCom has the agent task's id.
    """
    task, error = decision.task, decision.error
    return {
        "verdict": decision.verdict.value,
        **started.to_kwargs(),
        "status": task.status.value if task else None,
        "exit_code": task.exit_code if task else None,
        "error": str(error) if error else None,
        "is_final": bool(error and error.is_final),
        **({} if try_number is None else {"try_number": try_number}),
        **({"is_pushed": True} if is_pushed else {}),
    }


def build_callback_event(try_number: int) -> dict[str, Any]:
    """Return the event with which the API server resumes a task whose service has called back."""
    return {"callback": True, "try_number": try_number}


def build_slot_event(try_number: int) -> dict[str, Any]:
    """Return the event with which a task resumes that has waited for a slot of its connection."""
    return {"slot": True, "try_number": try_number}


def is_callback(event: Any) -> bool:
    """Return whether an event says no more than that the service has called back."""
    return isinstance(event, Mapping) and event.get("callback") is True


def read_try_number(event: Any) -> int | None:
    """Return the number of the try that waited for an event of ours, or None if it does not say."""
    number = event.get("try_number") if isinstance(event, Mapping) else None
    return number if isinstance(number, int) else None


def read_is_pushed(event: Any) -> bool:
    """Return whether an event says that XCom has the agent task's id."""
    return isinstance(event, Mapping) and event.get("is_pushed") is True


def read_event(event: Any) -> tuple[StartedTask, Decision]:
    """
    Read an event's payload, but trust only its ids, verdict and failure.

    The caller fetches the agent task's state again instead.

    :raises AgentTaskError: for anything other than our event, such as the answer to a form of the same task
        instance, which Airflow delivers in its place.
    """
    try:
        found = msgspec.convert(event, _Event)
    except (msgspec.ValidationError, RecursionError):
        raise AgentTaskError(
            f"The task was resumed with something other than its trigger's event: {shorten(repr(event))}. "
            "The agent task was not changed."
        ) from None
    error = AgentTaskError(found.error or "the trigger gave no reason")
    error.is_final = found.is_final
    started = StartedTask(found.agent_task_id, found.agent_id, found.started_at)
    return started, Decision(found.verdict, error=error)
