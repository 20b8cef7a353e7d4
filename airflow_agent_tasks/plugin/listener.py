"""
Cleanup once Airflow has recorded that a task or a DAG run has ended.

On a worker, after a success, it closes the record of the agent task. If it closed the record earlier, a
worker that dies in between would leave neither a result nor a way to get it.

In the API server and the scheduler, it stops the agent tasks of Airflow tasks that these servers end. A task
that is marked failed or success while it awaits input, is up for retry or queued, or is deferred without a
triggerer, has no worker or trigger that could be notified; nor does a task whose worker was lost on the last
try. When a whole DAG run ends, Airflow does not notify listeners of the tasks that it skips or has removed,
so the listener looks these up.

Every Airflow process imports this module, so it imports the rest only when there is something to stop.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Protocol, runtime_checkable

from airflow.listeners import hookimpl

from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES, is_database_row
from airflow_agent_tasks.plugin.startup import prepare, prepare_local_executor

log = logging.getLogger(__name__)


@runtime_checkable
class KeepsRecord(Protocol):
    """An operator that can close its record of an agent task after success."""

    def close_agent_task(self, context: Any) -> None:
        """Close the record, if Airflow has stored the success."""


@hookimpl
def on_starting(component: Any) -> None:
    """When a scheduler or a triggerer starts, check that this package fits Airflow, and prepare its work."""
    if is_database_row(component):  # a server's Job row; a worker starts too often for this
        prepare()
        prepare_local_executor(sys.argv)


@hookimpl
def on_task_instance_success(task_instance: Any) -> None:
    """Stop the agent task of a task that was marked success; on a worker, close its record."""
    stop_agent_task_of(task_instance)
    operator = getattr(task_instance, "task", None)
    if not is_database_row(task_instance) and isinstance(operator, KeepsRecord):
        try:
            operator.close_agent_task(task_instance.get_template_context())
        except Exception as error:  # would keep Airflow from calling other listeners
            log.warning("Could not close the record of an agent task: %s", error)


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Stop the agent task of a task that was marked failed, or whose worker was lost."""
    stop_agent_task_of(task_instance)


@hookimpl
def on_task_instance_skipped(task_instance: Any) -> None:
    """Stop the agent task of a task that was marked skipped."""
    stop_agent_task_of(task_instance)


@hookimpl
def on_dag_run_success(dag_run: Any) -> None:
    """Stop the agent tasks of the tasks that were skipped when the run was marked success."""
    stop_agent_tasks_passed_over(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any) -> None:
    """Stop the agent tasks of the tasks that were skipped when the run was marked failed or timed out."""
    stop_agent_tasks_passed_over(dag_run)


def stop_agent_task_of(task_instance: Any) -> None:
    """Stop the agent task of a task that this server has ended; returns at once."""
    ti, state = task_instance, str(getattr(task_instance.state, "value", task_instance.state))
    if is_database_row(ti) and state in FINAL_STATES:
        from airflow_agent_tasks.airflow_compat.ended_tasks import EndedTask
        from airflow_agent_tasks.plugin.orphan_stopper import stop_in_background

        stop_in_background(EndedTask.from_row(ti, state))


def stop_agent_tasks_passed_over(dag_run: Any) -> None:
    """Stop the agent tasks of the tasks that were skipped or removed in a run; returns at once."""
    if _has_records(dag_run.dag_id, dag_run.run_id):
        from airflow_agent_tasks.plugin.orphan_stopper import stop_passed_over_in_background

        stop_passed_over_in_background(dag_run.dag_id, dag_run.run_id)


def _has_records(dag_id: str, run_id: str) -> bool:
    """Return whether a run has agent tasks; for a run without any, the scheduler does nothing else."""
    try:
        from airflow_agent_tasks.airflow_compat.ended_tasks import has_records

        return has_records(dag_id, run_id)
    except Exception as error:  # would keep Airflow from calling other listeners
        log.warning("Could not read whether run %s of DAG %s had agent tasks: %s", run_id, dag_id, error)
        return True
