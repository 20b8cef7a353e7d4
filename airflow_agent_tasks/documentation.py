"""Addresses of documentation pages, for log lines, errors and forms. Does not import Airflow."""

from __future__ import annotations

#: Where the site is published; ``mkdocs.yml`` and ``pyproject.toml`` name it too.
SITE = "https://airflow-agent-tasks.readthedocs.io/en/stable/"


def link(page: str) -> str:
    """
    Return the address of a page.

    :param page: Its path below ``docs/`` without the extension, optionally with a heading:
        ``"reference/xcom#keys"``.
    """
    path, _, heading = page.partition("#")
    return f"{SITE}{path}/{'#' + heading if heading else ''}"


#: What to do about an agent task that could not be stopped.
STILL_RUNNING = link("how-to/debug-a-stuck-task#is-the-agent-still-running")


def link_error(error_class: type[BaseException]) -> str:
    """Return the address of the documentation of an exception of :mod:`airflow_agent_tasks.errors`."""
    return link(f"reference/errors#airflow_agent_tasks.errors.{error_class.__name__}")
