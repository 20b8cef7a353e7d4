"""
What an agent task has used: steps, seconds, tokens, money, as far as its service reports it.

No document of either service names these fields, so their usual names are read, and unknown ones are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.text import shorten

#: The keys of a response that may report usage.
USAGE_KEYS = ("usage", "cost", "tokens")
#: Limits for what is kept: the number of entries on each level, and the characters of a key or a text.
MAX_ENTRIES = 32
MAX_CHARACTERS = 100
#: Where each limit of a budget is looked up in the usage; the first number counts.
BUDGET_NAMES: Mapping[str, tuple[str, ...]] = {
    "steps": ("steps", "steps_completed"),
    "seconds": ("seconds", "duration_seconds"),
    "tokens": ("tokens", "total_tokens"),
    "cost": ("cost", "total_cost", "cost_usd"),
}
#: The key of the sum, if a number comes as an object; without one, its numbers are added.
_SUMS = ("total", "amount", "value")


def read_usage(reply: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Return the usage in a response or an event: ``usage``, with ``cost`` and ``tokens`` from beside it.

    :return: Names to numbers, short texts, or one more level of these; None if nothing is reported.
    """
    if reply.keys().isdisjoint(USAGE_KEYS):
        return None
    usage = reply.get("usage")
    found = dict(usage) if isinstance(usage, Mapping) else {"usage": usage}
    for key in ("cost", "tokens"):
        found.setdefault(key, reply.get(key))
    return dict(_keep_entries(found, is_nested=False)) or None


def _keep_entries(found: Mapping[Any, Any], *, is_nested: bool) -> Iterator[tuple[str, Any]]:
    for key, value in list(found.items())[:MAX_ENTRIES]:
        kept: Any = value
        if isinstance(value, str):
            kept = shorten(value, MAX_CHARACTERS)
        elif isinstance(value, Mapping) and not is_nested:
            kept = dict(_keep_entries(value, is_nested=True))
        elif value is None or not isinstance(value, int | float):
            continue
        yield shorten(str(key), MAX_CHARACTERS), kept


def find_spent(task: AgentTask, name: str) -> float | None:
    """
    Return how much of one limit of a budget an agent task has used, or None if its service does not say.

    :param task: The agent task.
    :param name: One of ``BUDGET_NAMES``.
    """
    usage = task.usage or {}
    for key in BUDGET_NAMES[name]:
        if (number := _read_number(usage.get(key))) is not None:
            return number
    if name == "tokens":
        parts = [_read_number(usage.get(key)) for key in ("input_tokens", "output_tokens")]
        return sum(part for part in parts if part is not None) if any(parts) else None
    if name == "steps" and task.progress and task.progress.steps_completed is not None:
        return float(task.progress.steps_completed)
    return None


def _read_number(value: Any) -> float | None:
    if isinstance(value, Mapping):
        for key in _SUMS:
            if (total := _read_number(value.get(key))) is not None:
                return total
        parts = [number for part in value.values() if (number := _read_number(part)) is not None]
        return sum(parts) if parts else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def list_passed(task: AgentTask, budget: Mapping[str, float]) -> list[str]:
    """Return the limits of a budget that an agent task has passed, as "cost 1.2 of 1"."""
    return [
        f"{name} {spent:g} of {limit:g}"
        for name, limit in budget.items()
        if (spent := find_spent(task, name)) is not None and spent > limit
    ]


def list_unreported(task: AgentTask, budget: Mapping[str, float]) -> list[str]:
    """Return the limits of a budget of which the service says nothing."""
    return [name for name in budget if find_spent(task, name) is None]


def describe_usage(usage: Mapping[str, Any]) -> str:
    """Return the usage as one line for the log or an error: "steps 12, tokens 3400, cost 0.42"."""
    return shorten(", ".join(f"{key} {_describe_value(value)}" for key, value in usage.items()), 500)


def _describe_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {_describe_value(part)}" for key, part in value.items()) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
