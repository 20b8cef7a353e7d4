"""
Start agent tasks without waiting, and look after them from other tasks.

    Lightcone:  start → running → tell it something → pause → paused → resume → completed
    Shinzo:     submit → awaiting_input → answer → completed
    Shinzo:     submit → cancel → cancelled

Needs ``lightcone_default`` and ``shinzo_default``. Try it without keys: ``airflow agent-tasks sandbox``.
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
        instruction='#sandbox {"steps": 8, "step_seconds": 0.5}\nBook a table for four in Lisbon on Friday.',
        kind="browser",
        wait_for_completion=False,
    )
    # The operator leaves the service's id of the task under the XCom key "task_id".
    agent_task = {"agent_task_id": start.output["task_id"], "conn_id": "lightcone_default"}

    is_running = AgentTaskSensor(task_id="is_running", target_states="running", **agent_task)
    tell = AgentTaskMessageOperator(task_id="tell", message="Not before 8 p.m., please.", **agent_task)
    pause = AgentTaskPauseOperator(task_id="pause", **agent_task)
    is_paused = AgentTaskSensor(task_id="is_paused", target_states="paused", **agent_task)
    resume = AgentTaskResumeOperator(task_id="resume", **agent_task)
    # This one may take long: it waits in the triggerer.
    is_booked = AgentTaskSensor(task_id="is_booked", deferrable=True, **agent_task)

    chain(start, is_running, tell, pause, is_paused, resume, is_booked)


def build_question_part() -> None:
    submit = ShinzoTaskOperator(
        task_id="submit",
        agent_id="agt_writer",
        message='#sandbox {"steps": 2, "step_seconds": 0.3, "ask": ["Which language?"]}\nWrite our newsletter.',
        wait_for_completion=False,
    )
    agent_task = {
        "agent_task_id": submit.output["task_id"],
        "agent_id": "agt_writer",
        "conn_id": "shinzo_default",
    }
    is_asking = AgentTaskSensor(task_id="is_asking", target_states="awaiting_input", **agent_task)
    answer = AgentTaskMessageOperator(task_id="answer", message="In Portuguese.", **agent_task)
    is_written = AgentTaskSensor(task_id="is_written", deferrable=True, **agent_task)

    chain(submit, is_asking, answer, is_written)


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


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["agent-tasks", "example"])
def submit_and_go() -> None:
    build_lightcone_part()
    build_question_part()
    build_cancel_part()


submit_and_go()
