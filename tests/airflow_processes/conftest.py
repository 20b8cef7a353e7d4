"""A real Airflow, with its own processes, for the tests that need the scheduler and the triggerer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_agent_tasks.sandbox.server import Sandbox

for _folder in ("demo", "faults"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / _folder))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(request: Any, sandbox: Sandbox, tmp_path_factory: Any) -> Iterator[Any]:
    """An Airflow with the module's ``DAGS`` (file name → source), at its default worker settings."""
    from airflow_cluster import AirflowCluster

    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    dags.mkdir()
    for name, source in request.module.DAGS.items():
        (dags / name).write_text(source)
    # The demo shortens this interval; here the package has to live with what users have.
    environment = {**sandbox.connection_variables(), "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5"}
    with AirflowCluster(folder / "home", dags_folder=dags, environment=environment) as running:
        dag_ids = [Path(name).stem for name in request.module.DAGS]
        running.wait_for_dags(dag_ids)
        for dag_id in dag_ids:
            running.api.unpause(dag_id)
        yield running
