"""
What is done once Airflow has taken note that a task has ended.

On a worker, after a success: the record of the agent task is removed. Before, a worker that died in between
would have left neither a result nor the way to it.

In the API server and the scheduler, when they end a task themselves: its agent task is stopped.
A task that is marked failed or success has no worker and no trigger to tell while it awaits a person's input,
is up for retry, queued, or deferred and not yet taken by a triggerer; nor has one whose worker was lost in
its last try. So the agent task that its record names is stopped from here. When a whole DAG run is ended,
Airflow tells nothing of the tasks that it skips, so they are looked up. Every Airflow process imports this
module: it imports what it needs only when something is to be stopped.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

from airflow_agent_tasks.lifecycle.submission import RECORD_KEY

log = logging.getLogger(__name__)

#: Of the API server's and the scheduler's task instances; those of a worker are of another class.
SERVER_CLASS = "airflow.models.taskinstance"
FINAL_STATES = ("failed", "success", "skipped")


@hookimpl
def on_task_instance_success(task_instance: Any) -> None:
    """Look after what was marked as success, and tidy up after what succeeded on this worker."""
    look_after(task_instance)
    forget = getattr(getattr(task_instance, "task", None), "forget_agent_task", None)
    if type(task_instance).__module__ != SERVER_CLASS and forget:
        try:
            forget(task_instance.get_template_context())
        except Exception as error:  # which would silence the listeners of others
            log.warning("The record of an agent task could not be removed: %s", error)


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Look after what was marked as failed, or whose worker was lost."""
    look_after(task_instance)


@hookimpl
def on_task_instance_skipped(task_instance: Any) -> None:
    """Look after what was marked as skipped."""
    look_after(task_instance)


@hookimpl
def on_dag_run_success(dag_run: Any) -> None:
    """Look after the tasks that were skipped when the run was marked as success."""
    look_after_run(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any) -> None:
    """Look after the tasks that were skipped when the run was marked as failed, or had timed out."""
    look_after_run(dag_run)


def look_after(task_instance: Any) -> None:
    """Have the agent task of a task instance stopped that a server ended; returns at once."""
    ti, state = task_instance, str(getattr(task_instance.state, "value", task_instance.state))
    if type(ti).__module__ == SERVER_CLASS and state in FINAL_STATES:
        from airflow_agent_tasks.plugin.orphan_stopper import EndedTask, begin_to_stop

        begin_to_stop(EndedTask(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.max_tries, state))


def look_after_run(dag_run: Any) -> None:
    """Have the agent tasks of a run's skipped tasks stopped; returns at once."""
    if _has_records(dag_run.dag_id, dag_run.run_id):
        from airflow_agent_tasks.plugin.orphan_stopper import begin_to_stop_skipped

        begin_to_stop_skipped(dag_run.dag_id, dag_run.run_id)


def _has_records(dag_id: str, run_id: str) -> bool:
    """Tell whether a run has agent tasks at all: a scheduler that runs none is to do no more than this."""
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(TaskStateStoreModel.id).filter_by(dag_id=dag_id, run_id=run_id, key=RECORD_KEY).limit(1)
    # Not the session of this thread, in the middle of whose work this is called.
    try:
        with create_session(scoped=False) as session:
            return session.scalar(query) is not None
    except Exception as error:  # which would silence the listeners of others
        log.warning("Whether run %s of %s had agent tasks cannot be seen: %s", run_id, dag_id, error)
        return True
