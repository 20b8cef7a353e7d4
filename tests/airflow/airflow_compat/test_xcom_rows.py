"""How an agent task ended, written into XCom by the API server or the scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, TaskState

STARTS = "ShinzoTaskOperator.partial(task_id='agent', wait_for_completion=False{}).expand(message=['a', 'b'])"
STOPPED = AgentTask("shinzo", "tsk_1", TaskState.CANCELLED)


def note_end(run: Any, map_index: int) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    from airflow_agent_tasks.airflow_compat.ended_tasks import EndedTask
    from airflow_agent_tasks.airflow_compat.xcom_rows import note_end

    with create_session() as session:
        rows = session.query(TaskInstance).filter_by(run_id=run.dag_run.run_id, dag_id=run.dag_run.dag_id)
        (row,) = [row for row in rows if row.map_index == map_index]
        ended = EndedTask.from_row(row, "failed")
    note_end(ended.scope, STOPPED)


def test_the_status_of_one_mapped_task_is_replaced(run_dag: Any) -> None:
    run = run_dag(STARTS.format(""))
    before = [run.xcom("agent", "status", index) for index in (0, 1)]
    note_end(run, 1)
    assert [run.xcom("agent", "status", index) for index in (0, 1)] == [before[0], "cancelled"]


@pytest.mark.parametrize("stored", ["http://localhost/dags/d/runs/r/tasks/agent/required_actions", None])
def test_the_link_to_a_question_is_emptied_and_none_is_made(run_dag: Any, stored: str | None) -> None:
    from airflow.models.xcom import XComModel

    run = run_dag(STARTS.format(""))
    names = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "task_id": "agent"}
    if stored:
        XComModel.set("_link_QuestionLink", stored, serialize=False, map_index=1, **names)
    note_end(run, 1)
    assert run.xcom("agent", "_link_QuestionLink", 1) == ("" if stored else None)


def test_a_task_that_pushes_no_xcom_gets_none(run_dag: Any) -> None:
    run = run_dag(STARTS.format(", do_xcom_push=False"))
    note_end(run, 0)
    assert run.xcom("agent", "status", 0) is None


@pytest.mark.parametrize("stored", ["s3://bucket/key", {"ref": 1}, 7, None])
def test_what_a_backend_keeps_elsewhere_is_left(run_dag: Any, stored: Any) -> None:
    from airflow.models.xcom import XComModel

    run = run_dag("ShinzoTaskOperator(task_id='agent', message='a', wait_for_completion=False)")
    names = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "task_id": "agent"}
    XComModel.set("status", stored, serialize=False, **names)
    note_end(run, -1)
    assert run.xcom("agent", "status") == stored
