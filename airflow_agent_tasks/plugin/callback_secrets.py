"""The secrets of callbacks, as the API server has read them."""

from __future__ import annotations

import logging
from functools import cache

from airflow_agent_tasks.callbacks.settings import read_secrets

log = logging.getLogger(__name__)


@cache
def get_secrets() -> list[str]:
    """Return the secrets of this server, read once: Airflow may run a command to get them. Never raises."""
    try:
        return read_secrets()
    except Exception as error:  # would end the server
        log.error("Callbacks wake no tasks: their secret cannot be read (%s)", type(error).__name__)  # noqa: TRY400
        return []
