"""The DAGs of the run: mapped agent tasks, and the same number of tasks that only sleep in the triggerer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lab.cluster_run.plan import EXIT_CODE, SERVICES, PlannedTask

#: The DAG whose components are killed, and the two that are measured beside each other.
KILLED_DAG, AGENT_DAG, SLEEP_DAG = "killed", "agents", "sleepers"
#: The pool that limits how many agents work at the same time.
POOL = "agents"
#: Tries after the first one: each kill may cost a task one.
RETRIES = 5

_AGENTS = """
from datetime import timedelta

from airflow.sdk import DAG

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

ARGUMENTS = {{
    "deferrable": True,
    "pool": {pool!r},
    "retries": {retries},
    "retry_delay": timedelta(seconds=1),
}}
LIGHTCONE = {lightcone!r}
SHINZO = {shinzo!r}

with DAG({dag_id!r}, schedule=None, max_active_tasks={count}):
    LightconeTaskOperator.partial(task_id="lightcone", no_retry_on_exit_code={exit_code}, **ARGUMENTS).expand(
        instruction=LIGHTCONE
    )
    ShinzoTaskOperator.partial(task_id="shinzo", **ARGUMENTS).expand(message=SHINZO)
"""
_SLEEPERS = """
from datetime import timedelta

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator


class SleepOperator(BaseOperator):
    def __init__(self, *, seconds, **kwargs):
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=self.seconds)), method_name="resume")

    def resume(self, context, event):
        return self.seconds


with DAG({dag_id!r}, schedule=None, max_active_tasks={count}):
    for name, tasks in {tasks!r}.items():
        SleepOperator.partial(task_id=name, pool={pool!r}, retries={retries}).expand(seconds=tasks)
"""


def build_agent_dag(dag_id: str, tasks: Iterable[PlannedTask]) -> str:
    """Return the source of a DAG that maps these agent tasks, with one operator for each service."""
    tasks = list(tasks)
    lightcone, shinzo = (
        [task.instruction for task in tasks if task.service == service] for service in SERVICES
    )
    return _AGENTS.format(
        dag_id=dag_id,
        pool=POOL,
        retries=RETRIES,
        exit_code=EXIT_CODE,
        count=max(len(tasks), 1),
        lightcone=lightcone,
        shinzo=shinzo,
    )


def build_sleep_dag(dag_id: str, tasks: Iterable[PlannedTask]) -> str:
    """Return the source of a DAG of the same shape whose tasks sleep as long as an ordinary agent works."""
    tasks = list(tasks)
    seconds = {service: [task.seconds for task in tasks if task.service == service] for service in SERVICES}
    return _SLEEPERS.format(
        dag_id=dag_id, pool=POOL, retries=RETRIES, count=max(len(tasks), 1), tasks=seconds
    )


def write_dags(folder: Path, sources: dict[str, str]) -> None:
    """Write one file for each DAG into a folder, and remove all others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.py"):
        path.unlink()
    for dag_id, source in sources.items():
        (folder / f"{dag_id}.py").write_text(source)
