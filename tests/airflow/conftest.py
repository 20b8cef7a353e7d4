"""Runs DAGs through Airflow's own ``dag.test()``."""

from __future__ import annotations

import importlib.util
import itertools
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PREAMBLE = """
from datetime import datetime, timedelta
from airflow.sdk import DAG, chain, dag, task
from airflow_agent_tasks.operators.agent_task import *
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor
"""
_numbers = itertools.count()


@dataclass
class FinishedRun:
    """What a DAG run left behind."""

    dag_run: Any

    @property
    def state(self) -> str:
        return str(self.dag_run.state)

    def task_state(self, task_id: str, map_index: int = -1) -> str:
        return str(self._task_instance(task_id, map_index).state)

    def tries(self, task_id: str) -> int:
        return int(self._task_instance(task_id, -1).try_number)

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(
                run_id=self.dag_run.run_id,
                dag_ids=self.dag_run.dag_id,
                task_ids=task_id,
                key=key,
                map_indexes=map_index,
            )
            row = session.scalars(query).first()
            return None if row is None else XComModel.deserialize_value(row)

    def _task_instance(self, task_id: str, map_index: int) -> Any:
        found = self.dag_run.get_task_instance(task_id, map_index=map_index)
        assert found is not None, f"no task instance {task_id}[{map_index}]"
        return found


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the adaptive waits 40 times shorter: what is tested here is what happens, not when."""
    from airflow_agent_tasks.protocol import polling

    monkeypatch.setattr(polling, "SHORTEST_WAIT", 0.05)


@pytest.fixture
def run_dag(airflow_home: Path, agent_task_sandbox: Any) -> Callable[..., FinishedRun]:
    """Return a function that takes the body of ``with DAG(…)`` and runs it to its end."""

    def run(body: str, **dag_test_arguments: Any) -> FinishedRun:
        dag_id = f"dag_{next(_numbers)}"
        source = f"{PREAMBLE}\nwith DAG({dag_id!r}, schedule=None) as test_dag:\n{_indent(body)}\n"
        return run_file(airflow_home / "dags" / f"{dag_id}.py", source, **dag_test_arguments)

    return run


def run_file(path: Path, source: str, dag_name: str = "test_dag", **dag_test_arguments: Any) -> FinishedRun:
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return FinishedRun(getattr(module, dag_name).test(**dag_test_arguments))


def _indent(body: str) -> str:
    return textwrap.indent(textwrap.dedent(body), "    ")
