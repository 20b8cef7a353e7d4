"""
Sends metrics through Airflow's own, so to what ``[metrics]`` names: StatsD, Datadog or OpenTelemetry.

As in Airflow, a variable such as the state is a tag. StatsD without tags drops all tags, so a metric with a
variable is sent again with the variable in its name, unless ``[metrics] legacy_names_on`` is False.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_agent_tasks.telemetry.failures import swallowed_failures

PREFIX = "agent_tasks."
#: Maximum number of characters of a tag's value.
MAX_TAG = 200


def count(
    name: str, value: float, tags: Mapping[str, str], variables: Mapping[str, str] | None = None
) -> None:
    """
    Add to a counter.

    :param name: The metric's name, without the prefix.
    :param value: The number to add.
    :param tags: The tags.
    :param variables: Tags that are also part of the second name, in its order.
    """
    with swallowed_failures("metrics"):
        for full_name, its_tags in _list_names(name, tags, variables or {}):
            _read_stats().incr(full_name, value, tags=its_tags)


def gauge(name: str, value: float, tags: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Set a gauge; the parameters are those of ``count``."""
    with swallowed_failures("metrics"):
        for full_name, its_tags in _list_names(name, tags, variables):
            _read_stats().gauge(full_name, value, tags=its_tags)


def time(name: str, seconds: float, tags: Mapping[str, str]) -> None:
    """Report a duration in seconds; Airflow sends timers in milliseconds."""
    with swallowed_failures("metrics"):
        _read_stats().timing(f"{PREFIX}{name}", timedelta(seconds=seconds), tags=_clean_tags(tags))


def _read_stats() -> Any:
    # Imported here: every DAG file imports this module.
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def _list_names(
    name: str, tags: Mapping[str, str], variables: Mapping[str, str]
) -> list[tuple[str, dict[str, str]]]:
    full_name = f"{PREFIX}{name}"
    names = [(full_name, _clean_tags({**tags, **variables}))]
    if variables and _has_legacy_names():
        # A dot would begin another part of the name.
        parts = [value.replace(".", "__") for value in _clean_tags(variables).values()]
        names.append((".".join([full_name, *parts]), _clean_tags(tags)))
    return names


def _has_legacy_names() -> bool:
    from airflow.sdk import conf

    return bool(conf.getboolean("metrics", "legacy_names_on", fallback=True))


def _clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    # Airflow drops a whole metric, with a traceback, if a tag has other characters.
    return {name: re.sub(r"[^A-Za-z0-9_.\-]", "_", str(value))[:MAX_TAG] for name, value in tags.items()}
