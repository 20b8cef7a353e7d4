"""
Start agent tasks without waiting for them, and control them from other tasks.

```text
Lightcone:  start → is_asking → pause → is_paused → resume → answer → is_booked
Shinzo:     submit → is_written
Shinzo:     submit_by_mistake → cancel → is_cancelled
```

Tasks that start with `is_` are sensors: they wait until the agent task reaches a state.

**Connections:** `lightcone_default` and `shinzo_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of each instruction, `#sandbox …`,
only scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import chain, dag

from airflow_agent_tasks.operators.agent_task import (
    AgentTaskCancelOperator,
    AgentTaskMessageOperator,
    AgentTaskPauseOperator,
    AgentTaskResumeOperator,
)
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor


def build_lightcone_part() -> None:
    start = LightconeTaskOperator(
        task_id="start",
        instruction=(
            '#sandbox {"steps": 4, "step_seconds": 0.5, "ask": ["Friday is full. Is Saturday fine?"]}\n'
            "Book a table for four in Lisbon on Friday."
        ),
        kind="browser",
        wait_for_completion=False,
    )
    # The operator pushes the service's id of the task to the XCom key "task_id".
    agent_task = {"agent_task_id": start.output["task_id"], "conn_id": "lightcone_default"}

    is_asking = AgentTaskSensor(task_id="is_asking", target_states="awaiting_input", **agent_task)
    # Nobody can answer before tomorrow, and the browser need not run until then.
    pause = AgentTaskPauseOperator(task_id="pause", **agent_task)
    is_paused = AgentTaskSensor(task_id="is_paused", target_states="paused", **agent_task)
    resume = AgentTaskResumeOperator(task_id="resume", **agent_task)
    answer = AgentTaskMessageOperator(task_id="answer", message="Saturday is fine.", **agent_task)
    # This one may take a while, so it waits in the triggerer.
    is_booked = AgentTaskSensor(task_id="is_booked", deferrable=True, **agent_task)

    chain(start, is_asking, pause, is_paused, resume, answer, is_booked)


def build_shinzo_part() -> None:
    submit = ShinzoTaskOperator(
        task_id="submit",
        agent_id="agt_writer",
        message='#sandbox {"steps": 2, "step_seconds": 0.3}\nWrite the newsletter for this week.',
        wait_for_completion=False,
    )
    is_written = AgentTaskSensor(
        task_id="is_written",
        agent_task_id=submit.output["task_id"],
        agent_id="agt_writer",
        conn_id="shinzo_default",
        deferrable=True,
    )
    submit >> is_written


def build_cancel_part() -> None:
    submit = ShinzoTaskOperator(
        task_id="submit_by_mistake",
        agent_id="agt_writer",
        message='#sandbox {"steps": 100, "step_seconds": 1}\nMail our newsletter to everybody.',
        priority=1,
        wait_for_completion=False,
    )
    agent_task = {
        "agent_task_id": submit.output["task_id"],
        "agent_id": "agt_writer",
        "conn_id": "shinzo_default",
    }
    cancel = AgentTaskCancelOperator(task_id="cancel", **agent_task)
    is_cancelled = AgentTaskSensor(
        task_id="is_cancelled", target_states=["cancelled", "failed"], **agent_task
    )

    chain(submit, cancel, is_cancelled)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "lightcone", "shinzo", "sensors"],
)
def submit_and_go() -> None:
    build_lightcone_part()
    build_shinzo_part()
    build_cancel_part()


submit_and_go()
