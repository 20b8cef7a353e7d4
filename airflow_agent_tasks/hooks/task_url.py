"""The address of an agent task's page on its service, from the pattern in the connection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_agent_tasks.hooks.connection_settings import read_text, wrong_field
from airflow_agent_tasks.services.http import is_usable_id

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def read_task_url(extra: Mapping[str, Any], source: str, *, has_agents: bool) -> str | None:
    """
    Return the pattern in the extra field ``task_url``, or None.

    :param extra: The connection's extra.
    :param source: The connection's name in messages.
    :param has_agents: True if the service has agents, so that ``{agent_id}`` may stand in the pattern.
    :raises AgentTaskConfigurationError: for anything but an http or https URL with known placeholders.
    """
    pattern = read_text(extra, "task_url", source)
    placeholders = ("{task_id}", "{agent_id}") if has_agents else ("{task_id}",)
    if pattern and not _is_usable(pattern, placeholders):
        allowed = (
            "an http:// or https:// URL without user and password, with no placeholder but "
            f"{' and '.join(placeholders)}, and with none before its path"
        )
        raise wrong_field("task_url", source, allowed, pattern)
    return pattern


def build_task_url(pattern: str | None, task_id: str, agent_id: str | None) -> str | None:
    """
    Return the URL of an agent task's page; None if there is no pattern, or no usable id for it.

    :param pattern: The pattern that ``read_task_url`` returned.
    :param task_id: The service's id of the agent task.
    :param agent_id: The agent that runs it, on services that have agents.
    """
    ids = {"task_id": task_id, "agent_id": agent_id or ""}
    # Quoting does not change dots: with the id "..", a browser would open another page.
    if not pattern or not all(is_usable_id(ids[name]) for name in _PLACEHOLDER.findall(pattern)):
        return None
    return _PLACEHOLDER.sub(lambda found: quote(ids[found[1]], safe="", errors="replace"), pattern)


def _is_usable(pattern: str, placeholders: tuple[str, ...]) -> bool:
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
