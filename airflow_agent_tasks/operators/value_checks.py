"""Checks of single argument values: each returns the value to keep, or raises AgentTaskArgumentError."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.start_fields import RENDERED_LATER, is_none_text, read_rendered, text
from airflow_agent_tasks.services.usage import BUDGET_NAMES
from airflow_agent_tasks.text import shorten

if TYPE_CHECKING:
    from airflow_agent_tasks.airflow_compat.required_action import HITLUser

T = TypeVar("T")

#: The allowed values of each argument that takes one of a few words.
POLICIES = {
    "on_timeout": ("stop", "leave"),
    "on_kill_policy": ("stop", "leave"),
    "on_uncertain_submit": ("resubmit", "fail"),
    "on_awaiting_input": ("ask", "return", "fail"),
}
_TEMPLATE_MARKS = ("{{", "{%", "{#")


def is_rendered_later(value: Any) -> bool:
    """Return whether Airflow renders a value before the task runs: a template, or another task's output."""
    if isinstance(value, str):
        return any(mark in value for mark in _TEMPLATE_MARKS)
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        try:
            return any(map(is_rendered_later, items))
        except RecursionError:  # it contains itself, which no field accepts
            return False
    return value is RENDERED_LATER or hasattr(value, "iter_references") or hasattr(value, "template_fields")


def check_constants(dialect: Dialect | None, start_fields: Mapping[str, Any]) -> None:
    """
    Raise AgentTaskArgumentError for constant start fields that are invalid, alone or in combination.

    Values that Airflow renders later (a template, another task's output) are checked before the request.
    """
    if not isinstance(start_fields, Mapping):
        raise AgentTaskArgumentError(
            f"start_fields must be a dict of start fields, not {shorten(repr(start_fields))}."
        )
    if dialect is None:  # the connection will name the service
        return
    known = {
        name: RENDERED_LATER if is_rendered_later(value) else value for name, value in start_fields.items()
    }
    rendered = read_rendered(dialect.start_fields, known)
    # The URL of a callback to Airflow is made when the task runs.
    dialect.check_start_fields(dialect.put_callback_url(rendered, RENDERED_LATER))


def check_seconds(name: str, value: timedelta | float | None) -> float | None:
    """Return a positive time in seconds, or None."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None:
        return None
    if not _is_positive(value):
        raise AgentTaskArgumentError(
            f"{name} must be a positive number of seconds, not {shorten(repr(value))}."
        )
    return value


def check_flag(name: str, value: bool) -> bool:
    """Return True or False; the text "no" would count as True."""
    if not isinstance(value, bool):
        raise AgentTaskArgumentError(f"{name} must be True or False, not {shorten(repr(value))}.")
    return value


def read_id(value: Any) -> Any:
    """Return an id as text, even if ``render_template_as_native_obj`` rendered it to a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_text(name: str, value: Any) -> Any:
    """
    Return a rendered text argument, even if ``render_template_as_native_obj`` rendered it to a number.

    :raises AgentTaskArgumentError: if it is blank, or "None" because the template's value was missing.
    """
    field = text(name)
    value = read_rendered([field], {name: value})[name]
    field.validate(value)
    return value


def check_text(name: str, value: Any) -> Any:
    """Return a text argument, checked unless Airflow renders it later."""
    if not is_rendered_later(value):
        read_text(name, value)
    return value


def check_name(name: str, value: Any) -> Any:
    """Return the name of a connection or an agent, checked unless Airflow renders it later."""
    if not is_rendered_later(value):
        text(name).validate(value)
    return value


def check_optional_name(name: str, value: Any) -> Any:
    """Return the name of a connection or an agent, or None."""
    return None if value is None else check_name(name, value)


def check_policy(name: str, value: str) -> str:
    """Return the value if the argument allows it."""
    if value not in POLICIES[name]:
        words = ", ".join(map(repr, POLICIES[name]))
        raise AgentTaskArgumentError(f"{name} must be one of {words}, not {shorten(repr(value))}.")
    return value


def check_exit_codes(name: str, value: int | Collection[int] | None) -> frozenset[int]:
    """Return one exit code or several as a set."""
    codes = as_list(value)
    if any(isinstance(code, bool) or not isinstance(code, int) for code in codes):
        raise AgentTaskArgumentError(
            f"{name} must be an exit code or a list of exit codes, not {shorten(repr(value))}."
        )
    return frozenset(codes)


def as_list(value: T | Collection[T] | None) -> list[T]:
    """Return one thing, several, or None as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [cast("T", value)]


def check_reply(name: str, value: Callable[[str], str | None] | None) -> Callable[[str], str | None] | None:
    """Return the function that replies to questions, or None."""
    if value is not None and not callable(value):
        raise AgentTaskArgumentError(
            f"{name} must be a function that takes a question, or None, not {shorten(repr(value))}."
        )
    return value


def check_notifiers(name: str, value: T | Collection[T] | None) -> list[T]:
    """Return one notifier or several as a list."""
    notifiers = as_list(value)
    for notifier in notifiers:
        if not callable(notifier) or isinstance(notifier, type):
            raise AgentTaskArgumentError(
                f"{name} must be an Airflow notifier such as SmtpNotifier(…), or a list of them, not "
                f"{shorten(repr(notifier))}."
            )
    return notifiers


def check_users(name: str, value: HITLUser | Collection[HITLUser] | None) -> list[HITLUser]:
    """Return one user or several as a list of ``{"id", "name"}``."""
    users: list[HITLUser] = as_list(value)
    for user in users:
        if not isinstance(user, Mapping) or not all(_is_word(user.get(key)) for key in ("id", "name")):
            raise AgentTaskArgumentError(
                f"{name} must be {{'id': …, 'name': …}}, the id and the name of an Airflow user as strings, "
                f"or a list of these, not {shorten(repr(user))}."
            )
    return users


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def check_input_default(name: str, value: str | None) -> str | None:
    """Return the reply to send if nobody answers in time, or None."""
    if value is not None and not _is_word(value):
        raise AgentTaskArgumentError(f"{name} must be a non-empty string, not {shorten(repr(value))}.")
    return value


def check_input_timeout(input_default: str | None, input_timeout: float | None) -> None:
    """Raise AgentTaskArgumentError for a default reply that would never be sent."""
    if input_default is not None and input_timeout is None:
        raise AgentTaskArgumentError(
            "input_default is sent when input_timeout has passed, so set input_timeout too."
        )


def check_waiting(*, wait_for_completion: bool, **needing: object) -> None:
    """Raise AgentTaskArgumentError for an argument that has no effect if nobody waits for the agent task."""
    for name, value in needing.items():
        if value and not wait_for_completion:
            raise AgentTaskArgumentError(f"{name} needs wait_for_completion=True, to follow the agent task.")


def check_budget(name: str, value: Mapping[str, float] | None) -> dict[str, float] | None:
    """Return the limits by name, or None."""
    if value is None:
        return None
    known = ", ".join(map(repr, BUDGET_NAMES))
    if not isinstance(value, Mapping) or not value or not set(value) <= BUDGET_NAMES.keys():
        raise AgentTaskArgumentError(
            f"{name} must be a dict with one or more of {known}, not {shorten(repr(value))}."
        )
    for limit, number in value.items():
        if not _is_positive(number):
            raise AgentTaskArgumentError(
                f"{name}[{limit!r}] must be a positive number, not {shorten(repr(number))}."
            )
    return dict(value)


def check_artifacts_path(name: str, value: Any) -> Any:
    """Return a folder or the URL of an object storage, checked unless Airflow renders it later; or None."""
    # Airflow renders only text, and an ObjectStoragePath need not be imported to be recognised.
    return check_optional_name(name, str(value) if hasattr(value, "protocol") else value)


def read_artifacts_path(value: str | None) -> str | None:
    """Return the rendered path; None if its template had no value."""
    return None if value is None or not value.strip() or is_none_text(value) else value


def check_bytes(name: str, value: int | None) -> int | None:
    """Return a positive number of bytes, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
        raise AgentTaskArgumentError(
            f"{name} must be a positive number of bytes, not {shorten(repr(value))}."
        )
    return value


def _is_positive(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0  # type: ignore[arg-type, operator]
