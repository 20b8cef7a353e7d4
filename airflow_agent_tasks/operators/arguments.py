"""Checks of operator arguments at the time the DAG is read, where a mistake costs nothing yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.start_fields import read_rendered
from airflow_agent_tasks.text import shorten

if TYPE_CHECKING:
    from airflow_agent_tasks.airflow_compat.required_action import HITLUser

T = TypeVar("T")

#: The words that each argument of a closed set takes.
POLICIES = {
    "on_timeout": ("stop", "leave"),
    "on_kill_policy": ("stop", "leave"),
    "on_uncertain_submit": ("resubmit", "fail"),
    "on_awaiting_input": ("ask", "return", "fail"),
}


def check_constants(dialect: Dialect, start_fields: Mapping[str, Any]) -> None:
    """
    Raise AgentTaskArgumentError for a start field that is a wrong constant.

    What Airflow renders later (a template, another task's output) is checked before the request is sent.
    """
    constants = {
        name: value
        for name, value in start_fields.items()
        if isinstance(value, int | float)
        or (isinstance(value, str) and "{{" not in value and "{%" not in value)
    }
    for field in dialect.start_fields:
        if field.name in constants:
            field.validate(read_rendered([field], constants)[field.name])


def check_seconds(name: str, value: timedelta | float | None) -> float | None:
    """Return a time above 0 in seconds, or None."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise AgentTaskArgumentError(
            f"{name} must be a number of seconds above 0, not {shorten(repr(value))}."
        )
    return value


def read_id(value: Any) -> Any:
    """Return an id as text, also where ``render_template_as_native_obj`` made a number of it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def check_policy(name: str, value: str) -> str:
    """Return a word that the argument takes."""
    if value not in POLICIES[name]:
        words = ", ".join(map(repr, POLICIES[name]))
        raise AgentTaskArgumentError(f"{name} must be one of {words}, not {shorten(repr(value))}.")
    return value


def check_exit_codes(name: str, value: int | Collection[int] | None) -> frozenset[int]:
    """Return one exit code or several as a set."""
    codes = () if value is None else (value,) if isinstance(value, int) else value
    if isinstance(codes, str) or any(isinstance(code, bool) or not isinstance(code, int) for code in codes):
        raise AgentTaskArgumentError(
            f"{name} must be an exit code or a list of exit codes, not {shorten(repr(value))}."
        )
    return frozenset(codes)


def as_list(value: T | Collection[T] | None) -> list[T]:
    """Return one thing, several, or None as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [cast("T", value)]


def check_reply(value: Callable[[str], str | None] | None) -> Callable[[str], str | None] | None:
    """Return what answers questions by program."""
    if value is not None and not callable(value):
        raise AgentTaskArgumentError(
            f"reply must be a function that takes a question, or None, not {shorten(repr(value))}."
        )
    return value


def check_users(value: HITLUser | Collection[HITLUser] | None) -> list[HITLUser]:
    """Return one user or several as a list of ``{"id", "name"}``."""
    users: list[HITLUser] = as_list(value)
    for user in users:
        if not isinstance(user, Mapping) or not {"id", "name"} <= set(user):
            raise AgentTaskArgumentError(
                "assigned_users must be {'id': …, 'name': …} or a list of such, with the ids of Airflow's "
                f"users; it has {shorten(repr(user))}."
            )
    return users


def check_input_default(value: str | None, input_timeout: float | None) -> str | None:
    """Return the reply for when nobody answers in time."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise AgentTaskArgumentError(f"input_default must be a non-empty text, not {shorten(repr(value))}.")
    if input_timeout is None:
        raise AgentTaskArgumentError(
            "input_default is sent when input_timeout has passed, and there is none: set input_timeout."
        )
    return value
