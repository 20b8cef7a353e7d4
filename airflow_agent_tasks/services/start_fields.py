"""The start fields of a service as a table, and their validation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.text import shorten

Check = Callable[[Any], bool]


#: Stands for a value that is not known before the task runs; every field accepts it.
RENDERED_LATER: Any = object()


@dataclass(frozen=True)
class Field:
    """
    One field of a request body.

    :param name: The service's own name of the field.
    :param allowed: Describes the allowed values, as the words after "must be".
    :param accepts: Returns whether a value is allowed.
    :param required: True if the service rejects a body without it; default False.
    :param from_text: Converts the text that a template rendered to, for fields that are not text.
    :param is_text: True if a number, rendered by a native template, should become text; default False.
    """

    name: str
    allowed: str
    accepts: Check
    required: bool = False
    from_text: Callable[[str], Any] | None = None
    is_text: bool = False

    def validate(self, value: Any) -> None:
        """Raise AgentTaskArgumentError unless the value is allowed."""
        if value is not RENDERED_LATER and not self.accepts(value):
            hint = _explain_rendered(self.name, value) if self.is_text else ""
            raise AgentTaskArgumentError(
                f"{self.name} must be {self.allowed}, not {shorten(repr(value))}.{hint}"
            )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not is_none_text(value)


def is_none_text(value: object) -> bool:
    """Return whether a value is the text ``None``, which a template renders to when a value is missing."""
    return isinstance(value, str) and value.strip() == str(None)


def _explain_rendered(name: str, value: Any) -> str:
    """Return why a template rendered to this value, as a sentence after a space."""
    if value is None or is_none_text(value):
        return (
            " A template renders to None if a value is missing, such as the XCom of a skipped task. Give a "
            "default, as in {{ … or 'something' }}, or skip this task too."
        )
    if isinstance(value, Mapping | list | tuple | set | bool):
        return (
            f" With render_template_as_native_obj, text that looks like a {type(value).__name__} becomes "
            f"one. Set render_template_as_native_obj=False on this task, or start {name} with a word."
        )
    return ""


def _is_number(value: Any) -> bool:
    # A comparison, because math.isfinite fails on integers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _is_web_address(value: Any) -> bool:
    if not isinstance(value, str) or any(character.isspace() for character in value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _read_number(text: str) -> int | float:
    return int(text) if text.strip().lstrip("+-").isdigit() else float(text)


def text(name: str, *, required: bool = False) -> Field:
    """Text that is not blank."""
    return Field(name, "a non-empty string", _is_text, required, is_text=True)


def one_of(name: str, *words: str) -> Field:
    """One of these words."""
    return Field(name, "one of " + ", ".join(map(repr, words)), lambda value: value in words)


def positive_integer(name: str, *, maximum: int | None = None) -> Field:
    """A whole number of at least 1, and at most ``maximum`` if given."""
    return Field(
        name,
        "a positive integer" if maximum is None else f"an integer from 1 to {maximum}",
        lambda value: _is_integer(value) and 1 <= value <= (maximum or value),
        from_text=_read_number,
    )


def positive_number(name: str) -> Field:
    """A finite number above 0."""
    return Field(
        name, "a positive number", lambda value: _is_number(value) and value > 0, from_text=_read_number
    )


def temperature(name: str) -> Field:
    """A finite number of at least 0."""
    return Field(
        name, "a number of at least 0", lambda value: _is_number(value) and value >= 0, from_text=_read_number
    )


def boolean(name: str) -> Field:
    """True or False."""
    words = {"true": True, "false": False}
    return Field(
        name,
        "True or False",
        lambda value: isinstance(value, bool),
        from_text=lambda rendered: words[rendered.strip().lower()],
    )


def labels(name: str) -> Field:
    """A dict of strings to strings."""
    return Field(
        name,
        "a dict of strings to strings",
        lambda value: (
            isinstance(value, dict) and all(isinstance(part, str) for item in value.items() for part in item)
        ),
        from_text=json.loads,
    )


def json_object(name: str) -> Field:
    """A dict of JSON values."""
    return Field(
        name,
        "a dict of JSON values",
        lambda value: (
            isinstance(value, dict) and all(isinstance(key, str) for key in value) and _is_json(value)
        ),
        from_text=json.loads,
    )


def turns(name: str) -> Field:
    """Earlier turns of a conversation, oldest first: a list of ``{"role", "content"}``."""
    return Field(
        name,
        'a list of {"role": "user" or "assistant", "content": text}',
        lambda value: (
            isinstance(value, list | tuple)
            and all(
                isinstance(turn, dict)
                and set(turn) == {"role", "content"}
                and turn["role"] in ("user", "assistant")
                and isinstance(turn["content"], str)
                for turn in value
            )
        ),
        from_text=json.loads,
    )


def web_address(name: str) -> Field:
    """An http or https URL."""
    return Field(name, "an http:// or https:// URL", _is_web_address)


def check_fields(service: str, table: Iterable[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the given fields in the table's order, without those that are None.

    :param service: The service's name, for messages.
    :param table: The fields of the service.
    :param values: The caller's values; None means "not given".
    :raises AgentTaskArgumentError: for an unknown or missing field, or a value that is not allowed.
    """
    by_name = {field.name: field for field in table}
    if unknown := sorted(map(str, set(values) - set(by_name))):
        raise AgentTaskArgumentError(
            f"{service} has no start field {unknown[0]!r}. Its start fields are {', '.join(by_name)}."
        )
    given = {name: values[name] for name in by_name if values.get(name) is not None}
    for field in by_name.values():
        if field.name in given:
            field.validate(given[field.name])
        elif field.required:
            hint = _explain_rendered(field.name, None) if field.name in values else ""
            raise AgentTaskArgumentError(f"{field.name} is required and must be {field.allowed}.{hint}")
    return given


def read_rendered(table: Iterable[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values with rendered text converted to the type of its field.

    Airflow renders templates to text, so ``priority="{{ params.priority }}"`` arrives as ``"7"``; with
    ``render_template_as_native_obj`` it renders ``thread_id="{{ ds_nodash }}"`` to a number. Text that cannot
    be converted is returned unchanged, and ``check_fields`` rejects it.
    """
    by_name = {field.name: field for field in table}
    return {name: _read_value(by_name.get(name), value) for name, value in values.items()}


def _read_value(field: Field | None, value: Any) -> Any:
    if field is None or not (_is_number(value) if field.is_text else isinstance(value, str)):
        return value
    reader = str if field.is_text else field.from_text
    try:
        return reader(value) if reader else value
    except (ValueError, KeyError, RecursionError):
        return value
