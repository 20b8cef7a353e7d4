"""The address of an agent task's page on its service, from the pattern in the connection."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote, urlsplit

from airflow_agent_tasks.services.http import is_usable_id

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def is_usable_pattern(pattern: str, placeholders: Collection[str]) -> bool:
    """
    Return whether a pattern is an http or https URL that nothing but an id can change, and not in its host.

    :param pattern: The pattern.
    :param placeholders: The placeholders that may stand in it, with their braces.
    """
    # The address with an id in it: what is left of braces then belongs to no known placeholder.
    filled = pattern
    for placeholder in placeholders:
        filled = filled.replace(placeholder, "id")
    try:
        parts = urlsplit(filled)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    has_fixed_host = pattern.startswith(f"{parts.scheme}://{parts.netloc}") and "@" not in parts.netloc
    return is_url and has_fixed_host and filled.isprintable() and not set(' "<>\\{}').intersection(filled)


def build_task_url(pattern: str | None, task_id: str, agent_id: str | None) -> str | None:
    """
    Return the URL of an agent task's page; None if there is no pattern, or no usable id for it.

    :param pattern: The pattern of the connection, which ``is_usable_pattern`` accepts.
    :param task_id: The service's id of the agent task.
    :param agent_id: The agent that runs it, on services that have agents.
    """
    ids = {"task_id": task_id, "agent_id": agent_id or ""}
    # Quoting does not change dots: with the id "..", a browser would open another page.
    if not pattern or not all(is_usable_id(ids[name]) for name in _PLACEHOLDER.findall(pattern)):
        return None
    return _PLACEHOLDER.sub(lambda found: quote(ids[found[1]], safe="", errors="replace"), pattern)
