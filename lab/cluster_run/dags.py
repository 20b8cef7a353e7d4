"""The DAGs of the run: mapped agent tasks, and the same number of tasks that only sleep in the triggerer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lab.cluster_run.plan import EXIT_CODE, SERVICES, PlannedTask

#: The DAGs whose components are killed, and the two that are measured beside each other.
KILLED_DAGS = ("killed_1", "killed_2")
AGENT_DAG, SLEEP_DAG = "agents", "sleepers"
#: The connections with ``max_concurrent_tasks`` and those without, by service.
LIMITED = {service: f"{service}_limited" for service in SERVICES}
UNLIMITED = {service: f"{service}_default" for service in SERVICES}
#: Tries after the first one: each kill may cost a task one.
RETRIES = 5

_AGENTS = """
from datetime import timedelta

from airflow.sdk import DAG

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

ARGUMENTS = {{
    "deferrable": True,
    "retries": {retries},
    "retry_delay": timedelta(seconds=1),
}}
LIGHTCONE = {lightcone!r}
SHINZO = {shinzo!r}

with DAG({dag_id!r}, schedule=None, max_active_tasks={count}):
    LightconeTaskOperator.partial(
        task_id="lightcone", conn_id={conn_ids[lightcone]!r}, no_retry_on_exit_code={exit_code}, **ARGUMENTS
    ).expand(instruction=LIGHTCONE)
    ShinzoTaskOperator.partial(task_id="shinzo", conn_id={conn_ids[shinzo]!r}, **ARGUMENTS).expand(
        message=SHINZO
    )
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
        SleepOperator.partial(task_id=name, retries={retries}).expand(seconds=tasks)
"""


def build_agent_dag(
    dag_id: str, tasks: Iterable[PlannedTask], conn_ids: Mapping[str, str] = UNLIMITED
) -> str:
    """
    Return the source of a DAG that maps these agent tasks, with one operator for each service.

    :param conn_ids: The connections by service; default: those without a limit.
    """
    tasks = list(tasks)
    lightcone, shinzo = (
        [task.instruction for task in tasks if task.service == service] for service in SERVICES
    )
    return _AGENTS.format(
        dag_id=dag_id,
        conn_ids=conn_ids,
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
    return _SLEEPERS.format(dag_id=dag_id, retries=RETRIES, count=max(len(tasks), 1), tasks=seconds)


def write_dags(folder: Path, sources: dict[str, str]) -> None:
    """Write one file for each DAG into a folder, and remove all others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.py"):
        path.unlink()
    for dag_id, source in sources.items():
        (folder / f"{dag_id}.py").write_text(source)
