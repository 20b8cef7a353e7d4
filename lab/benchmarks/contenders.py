"""The compared providers: the connection and the trigger with which each waits for a task."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

CONN_ID = "bench"
AGENT_ID = "agt_1"
A_DAY = 86_400.0
#: The contender whose tasks have the records and the URLs of callbacks.
CALLED_BACK = "called_back"


@dataclass(frozen=True)
class Contender:
    """
    A provider's trigger.

    :param title: Its name in the tables.
    :param connect: Takes the service's address; returns the connection, as in ``AIRFLOW_CONN_…``.
    :param build: Takes a task's number and a poll interval in seconds; returns a trigger that waits for it.
    """

    title: str
    connect: Callable[[str], Mapping[str, Any]]
    build: Callable[[int, float], Any]


def _build_ours(number: int, interval: float) -> Any:
    from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger

    return AgentTaskTrigger(
        conn_id=CONN_ID, agent_task_id=str(number), started_at=time.time(), poll_interval=interval
    )


def _build_with_progress(number: int, interval: float) -> Any:
    from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger

    return AgentTaskTrigger(
        conn_id=CONN_ID,
        agent_task_id=str(number),
        agent_id=AGENT_ID,
        started_at=time.time(),
        poll_interval=interval,
        notes_progress="running",
    )


def _build_polled(number: int, interval: float) -> Any:
    return _build_old(number)


def _build_called_back(number: int, interval: float) -> Any:
    return _build_old(number, is_called_back=True)


def _build_old(number: int, **arguments: Any) -> Any:
    """Build the trigger of a task that has already worked for an hour."""
    from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger

    return AgentTaskTrigger(
        conn_id=CONN_ID,
        agent_task_id=str(number),
        agent_id=AGENT_ID,
        started_at=time.time() - 3600,
        notes_progress="running",
        **arguments,
    )


def _build_dbt(number: int, interval: float) -> Any:
    from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    # Its hook supports only HTTPS. If this run's service uses plain HTTP, its URLs are replaced.
    DbtCloudHook.get_request_url_params = staticmethod(_build_dbt_url)
    return DbtCloudRunJobTrigger(
        conn_id=CONN_ID, run_id=number, end_time=time.time() + A_DAY, poll_interval=interval, account_id=1
    )


def _build_dbt_url(
    tenant: str, endpoint: str, include_related: list[str] | None = None, *, api_version: str = "v2"
) -> tuple[str, dict[str, Any]]:
    return f"{os.environ['BENCH_SCHEME']}://{tenant}/api/{api_version}/accounts/{endpoint}", {}


def _build_http_sensor(number: int, interval: float) -> Any:
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return HttpSensorTrigger(endpoint=f"sensor/{number}", http_conn_id=CONN_ID, poke_interval=interval)


def _build_anthropic(number: int, interval: float) -> Any:
    from airflow.providers.anthropic.triggers.agent import AnthropicAgentSessionTrigger

    return AnthropicAgentSessionTrigger(
        conn_id=CONN_ID, session_id=str(number), poll_interval=interval, end_time=time.time() + A_DAY
    )


def _build_sleeper(number: int, interval: float) -> Any:
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    return DateTimeTrigger(datetime.now(timezone.utc) + timedelta(days=1))


def _connect_shinzo(url: str) -> Mapping[str, Any]:
    return {"conn_type": "shinzo", "host": url, "password": "key_bench"}


CONTENDERS = {
    "ours": Contender(
        "airflow-agent-tasks",
        lambda url: {"conn_type": "lightcone", "host": url, "password": "sk_bench"},
        _build_ours,
    ),
    "progress": Contender(
        "airflow-agent-tasks, with the progress of Shinzo's agents",
        _connect_shinzo,
        _build_with_progress,
    ),
    "polled": Contender("polling at the default interval", _connect_shinzo, _build_polled),
    CALLED_BACK: Contender("with callbacks", _connect_shinzo, _build_called_back),
    "dbt": Contender(
        "dbt Cloud",
        lambda url: {
            "conn_type": "dbt_cloud",
            "host": url.partition("://")[2],
            "login": "1",
            "password": "key",
        },
        _build_dbt,
    ),
    "http": Contender("HTTP sensor", lambda url: {"conn_type": "http", "host": url}, _build_http_sensor),
    "anthropic": Contender(
        "Anthropic agent",
        lambda url: {"conn_type": "anthropic", "host": url, "password": "key"},
        _build_anthropic,
    ),
    "sleeper": Contender(
        "Airflow's own DateTimeTrigger, which only sleeps", lambda url: {"conn_type": "http"}, _build_sleeper
    ),
}
