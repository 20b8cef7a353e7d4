"""What an import costs that every DAG file, or every Airflow process, has to pay for."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Slow to import: each costs 50 ms or more, and several times as much under load.
SLOW = ("requests", "urllib3", "aiohttp", "fastapi", "starlette", "sqlalchemy", "airflow.models")
#: And what metrics, traces and lineage need only where they are switched on.
SLOW += ("opentelemetry.sdk", "opentelemetry.exporter", "statsd", "openlineage")


@pytest.mark.parametrize(
    ("before", "module"),
    [
        ("airflow.sdk", "airflow_agent_tasks.operators.lightcone"),
        ("airflow.sdk", "airflow_agent_tasks.operators.shinzo"),
        ("airflow.sdk", "airflow_agent_tasks.sensors.agent_task"),
        ("airflow.sdk", "airflow_agent_tasks.decorators.agent_task"),
        ("airflow.plugins_manager", "airflow_agent_tasks.plugin"),
        ("airflow.cli.cli_config", "airflow_agent_tasks.cli.commands"),
    ],
)
def test_an_import_brings_in_nothing_slow(before: str, module: str) -> None:
    program = (
        f"import sys, {before}\nbefore = set(sys.modules)\nimport {module}\n"
        f"print([name for name in {SLOW!r} if name in set(sys.modules) - before], {module!r} in sys.modules)"
    )
    # Airflow prints the warnings of its own modules.
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, "[] True"), result.stderr
