"""Calls the operator's notifiers with a question, but never renders the agent's words as a template."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import copy, deepcopy
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.text import shorten

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

#: How many levels deep to search a notifier for other notifiers.
MAX_DEPTH = 12


def notify(
    notifiers: Iterable[BaseNotifier | Callable[[Context], None]],
    context: Context,
    question: str | None,
    log: Log,
) -> None:
    """
    Call each notifier; if one fails, log it and continue.

    :param notifiers: The operator's notifiers, which are not modified.
    :param context: The context of the try; the notifiers also get ``question`` in theirs.
    :param question: The agent's question.
    :param log: The task's log.
    """
    for notifier in notifiers:
        try:
            _copy(notifier, {})(cast("Context", {**context, "question": question}))
        except Exception as error:
            # Shortened, because its text may contain the agent's words.
            log.warning("A notifier failed; the question stays open: %s", shorten(repr(error), 500))


def _copy(value: Any, known: dict[int, Any], depth: int = 0) -> Any:
    """
    Return a copy of a notifier, or of a part of it, that may be called once.

    Airflow's notifiers render their fields in place. A second call would render the agent's words from the
    first one, and so execute any template in them. The copy shares everything else with the notifier.

    :param value: A notifier, or something that may contain one.
    :param known: The copies of the objects so far, by the objects' ids.
    :param depth: The nesting level of the value in the notifier.
    """
    if id(value) not in known and depth <= MAX_DEPTH:
        known[id(value)] = value  # for objects that contain themselves
        known[id(value)] = _copy_parts(value, lambda part: _copy(part, known, depth + 1))
    return known.get(id(value), value)


def _copy_parts(value: Any, copy_part: Callable[[Any], Any]) -> Any:
    """Return the value itself, or a copy if a call renders something in it."""
    if type(value) in (list, tuple, set):
        parts = [copy_part(part) for part in value]
        return type(value)(parts) if _differ(parts, value) else value
    if type(value) is dict:
        parts = [copy_part(part) for part in value.values()]
        return dict(zip(value, parts, strict=True)) if _differ(parts, value.values()) else value
    if isinstance(value, partial):
        keywords = {name: copy_part(part) for name, part in value.keywords.items()}
        return partial(copy_part(value.func), *map(copy_part, value.args), **keywords)
    if isinstance(value, MethodType):
        return MethodType(value.__func__, copy_part(value.__self__))
    if isinstance(value, type | ModuleType | FunctionType) or not hasattr(value, "__dict__"):
        return value
    return _copy_object(value, copy_part)


def _copy_object(value: Any, copy_part: Callable[[Any], Any]) -> Any:
    copied = {name: copy_part(part) for name, part in vars(value).items()}
    changed = {name: part for name, part in copied.items() if part is not vars(value)[name]}
    for name in getattr(value, "template_fields", ()):
        with suppress(Exception):  # an object that cannot be copied cannot be rendered in place either
            changed[name] = deepcopy(getattr(value, name))
    if not changed:
        return value
    made = copy(value)
    for name, part in changed.items():
        with suppress(AttributeError):  # a property
            setattr(made, name, part)
    return made


def _differ(parts: Iterable[Any], others: Iterable[Any]) -> bool:
    return any(part is not other for part, other in zip(parts, others, strict=True))
