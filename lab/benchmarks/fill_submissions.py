"""Gives each task instance of some DAGs the record and the XComs of an agent task, as a worker would."""

from __future__ import annotations

import json
import time
from typing import Any

from lab.command_line import build_parser, run_command

#: The states that the task instances get in turn, with those of their agents.
STATES = (("deferred", "running"), ("success", "completed"), ("awaiting_input", "awaiting_input"))


def fill(dag_ids: list[str]) -> int:
    """Write records and XComs into Airflow's database, and return the number of task instances."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(select(TaskInstance).where(TaskInstance.dag_id.in_(dag_ids))).all()
        for number, ti in enumerate(rows):
            ti.state, status = STATES[number % len(STATES)]
            ti.start_date = ti.start_date or ti.updated_at
            _write(ti, number, status, session)
        return len(rows)


def _write(ti: Any, number: int, status: str, session: Any) -> None:
    from airflow.models.xcom import XComModel
    from airflow.state import get_state_backend

    from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
    from airflow_agent_tasks.airflow_compat.ended_tasks import build_scope
    from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

    started = StartedTask(f"tsk_{number:06}", "agt_research", time.time() - number)
    task = AgentTask("shinzo", started.agent_task_id, TaskState(status))
    if task.is_terminal:
        record = Submission.build_closed(started, task, "shinzo_default")
    else:
        record = Submission(f"key-{number}", 1, 0, conn_id="shinzo_default", service="shinzo").with_task(
            started
        )
    get_state_backend().set(build_scope(ti), RECORD_KEY, json.dumps(record.to_json()), session=session)
    names = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
    progress = {"current_step": f"Company {number}", "steps_completed": number % 7, "total_steps": 7}
    for key, value in {"status": status, "progress": progress, "usage": {"steps": number % 7}}.items():
        XComModel.set(key, value, **names, serialize=False, session=session)


def main() -> int:
    """Fill the database and return the exit status."""
    parser = build_parser("lab.benchmarks.fill_submissions", __doc__)
    parser.add_argument("dag_ids", nargs="+", metavar="DAG_ID")
    print(fill(parser.parse_args().dag_ids))
    return 0


if __name__ == "__main__":
    run_command(main)
