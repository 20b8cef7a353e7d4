"""Checks by their heartbeats whether a scheduler and a triggerer are alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_agent_tasks.airflow_compat import deployment
from airflow_agent_tasks.airflow_compat.api_server import list_servers, send
from airflow_agent_tasks.airflow_compat.startup_check import PACKAGE
from airflow_agent_tasks.cli.finding import Finding
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.services.http import Request

HEALTHY = "healthy"
HEALTH = Request("GET", "/api/v2/monitor/health", "read the health of Airflow")


def check_components() -> Iterator[Finding]:
    """Yield the state of scheduler and triggerer, from the API server or else from the database."""
    health = _ask_api_servers() or _read_database()
    if not health or health["metadatabase"]["status"] != HEALTHY:
        details = "not checked: neither the API server nor this machine can read Airflow's database"
        remedy = "Start the API server and the database, or run this command where the scheduler runs."
        yield Finding("scheduler, triggerer", "failed", details, remedy)
        return
    yield _judge(health, "scheduler", "no tasks run", "Start it: airflow scheduler")
    yield _judge(
        health,
        "triggerer",
        "deferred tasks never resume",
        f"Start it: airflow triggerer, on a machine where {PACKAGE} is installed.",
    )


def _ask_api_servers() -> Mapping[str, Any] | None:
    for server in list_servers():
        try:
            health = send(server, HEALTH, retries=False).to_json()
        except (AgentTaskError, ValueError):
            continue
        if isinstance(health, Mapping) and "scheduler" in health:
            return health
    return None


def _read_database() -> Mapping[str, Any] | None:
    try:
        return deployment.read_health()
    except FileNotFoundError:  # a worker needs no database
        return None


def _judge(health: Mapping[str, Any], component: str, consequence: str, remedy: str) -> Finding:
    status, seen_at = health[component]["status"], health[component][f"latest_{component}_heartbeat"]
    if status == HEALTHY:
        return Finding(component, "ok", f"alive, last heartbeat {seen_at}")
    if seen_at is None and component == "triggerer":
        # A deployment in which no task is deferred needs no triggerer.
        details = f"never started, so {consequence}"
        return Finding(component, "warning", details, remedy)
    seen = f"last heartbeat {seen_at}" if seen_at else "never started"
    return Finding(component, "failed", f"not alive ({seen}), so {consequence}", remedy)
