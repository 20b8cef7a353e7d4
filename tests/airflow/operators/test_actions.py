"""The operators that act on a running agent task, through ``dag.test()``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.airflow.started_tasks import start, then


@pytest.mark.parametrize("service", ["lightcone", "shinzo"])
def test_a_message_reaches_the_agent(run_dag: Any, agent_task_sandbox: Any, service: str) -> None:
    run = run_dag(
        start(service)
        + then(service, "AgentTaskMessageOperator(task_id='tell', message='Hurry, {{ dag.dag_id }}', TARGET)")
    )
    assert run.state == "success"
    (task,) = agent_task_sandbox.tasks()
    assert [message["message"] for message in task["messages"]] == [f"Hurry, {run.dag_run.dag_id}"]
    assert run.xcom("tell")["task_id"] == task["task_id"]


def test_pause_and_resume_act_on_lightcone(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        start("lightcone")
        + then(
            "lightcone",
            "AgentTaskPauseOperator(task_id='pause', TARGET)",
            "AgentTaskResumeOperator(task_id='resume', TARGET)",
        )
    )
    assert (run.xcom("pause")["status"], run.xcom("resume")["status"]) == ("paused", "running")


def test_cancel_acts_on_shinzo(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(start("shinzo") + then("shinzo", "AgentTaskCancelOperator(task_id='cancel', TARGET)"))
    assert run.xcom("cancel")["status"] == "cancelled"
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["cancelled"]


@pytest.mark.parametrize(
    ("service", "operator", "says"),
    [
        ("lightcone", "AgentTaskCancelOperator", "Lightcone has no cancel. Pause the task instead"),
        ("shinzo", "AgentTaskPauseOperator", "Shinzo has no pause. Cancel the task instead"),
        ("shinzo", "AgentTaskResumeOperator", "Shinzo has no resume. Shinzo tasks are never paused"),
    ],
)
def test_what_the_service_cannot_do_is_refused_with_the_alternative(
    run_dag: Any, capfd: Any, service: str, operator: str, says: str
) -> None:
    run = run_dag(start(service) + then(service, f"{operator}(task_id='act', retries=2, TARGET)"))
    assert (run.task_state("act"), run.tries("act")) == ("failed", 1)
    assert says in capfd.readouterr().out


def test_cancelling_what_has_ended_is_refused_with_the_services_words(run_dag: Any, capfd: Any) -> None:
    script = '#sandbox {"steps": 1, "step_seconds": 0}'
    run = run_dag(
        start("shinzo", script) + then("shinzo", "AgentTaskCancelOperator(task_id='cancel', TARGET)")
    )
    assert run.task_state("cancel") == "failed"
    assert "Shinzo answered 400" in capfd.readouterr().out


def test_an_id_that_rendered_to_a_number_is_text_again(run_dag: Any, agent_task_sandbox: Any) -> None:
    run_dag(
        """
        test_dag.render_template_as_native_obj = True
        AgentTaskCancelOperator(
            task_id="cancel", agent_task_id="{{ 12345 }}", agent_id="agt_a", conn_id="shinzo_default"
        )
        """
    )
    (asked,) = agent_task_sandbox.requests()
    assert asked["path"] == "/agent/agt_a/task/12345/cancel"
