"""Mistakes in a DAG file are found when the DAG is read, in a sentence that names argument and value."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor
from airflow_agent_tasks.services.lightcone import LightconeDialect
from airflow_agent_tasks.services.shinzo import ShinzoDialect

WRONG = [
    ({"poll_interval": 0}, "poll_interval must be a positive number of seconds, not 0."),
    ({"poll_interval": "5"}, "poll_interval must be a positive number of seconds, not '5'."),
    ({"timeout": -1}, "timeout must be a positive number of seconds, not -1."),
    ({"timeout": float("nan")}, "timeout must be a positive number of seconds, not nan."),
    ({"timeout": True}, "timeout must be a positive number of seconds, not True."),
    ({"on_timeout": "cancel"}, "on_timeout must be one of 'stop', 'leave', not 'cancel'."),
    ({"on_awaiting_input": "wait"}, "on_awaiting_input must be one of 'ask', 'return', 'fail', not 'wait'."),
    ({"reply": "Yes."}, "reply must be a function that takes a question, or None, not 'Yes.'."),
    ({"input_timeout": 0}, "input_timeout must be a positive number of seconds, not 0."),
    ({"input_default": " ", "input_timeout": 5}, "input_default must be a non-empty string, not ' '."),
    ({"input_default": "Yes."}, "so set input_timeout too."),
    ({"input_recheck_interval": -1}, "input_recheck_interval must be a positive number of seconds, not -1."),
    ({"assigned_users": "ada"}, "of these, not 'ada'."),
    ({"assigned_users": [{"id": "7"}]}, "of these, not {'id': '7'}."),
    (
        {"skip_on_exit_code": "99"},
        "skip_on_exit_code must be an exit code or a list of exit codes, not '99'.",
    ),
    ({"no_retry_on_exit_code": [True]}, "no_retry_on_exit_code must be an exit code or a list of exit codes"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_argument_is_refused_when_the_dag_is_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        LightconeTaskOperator(task_id="agent", instruction="Do it", **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"instruction": " "}, "instruction must be a non-empty string, not ' '."),
        ({"kind": "phone"}, "kind must be one of 'desktop', 'browser', not 'phone'."),
        ({"screenshot_mode": "png"}, "screenshot_mode must be one of 'url', 'base64', not 'png'."),
        ({"max_steps": 0}, "max_steps must be a positive integer, not 0."),
        ({"viewport_width": "wide"}, "viewport_width must be a positive integer, not 'wide'."),
        ({"persistent": "maybe"}, "persistent must be True or False, not 'maybe'."),
        ({"start_url": "example.com"}, "start_url must be an http:// or https:// URL, not 'example.com'."),
    ],
)
def test_a_wrong_lightcone_field_is_refused_when_the_dag_is_read(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        LightconeTaskOperator(task_id="agent", **{"instruction": "Do it", **arguments})
    assert str(caught.value) == message


def test_one_user_and_one_notifier_may_stand_alone() -> None:
    user, notifier = {"id": "7", "name": "Ada"}, print
    operator = LightconeTaskOperator(
        task_id="agent", instruction="Do it", assigned_users=user, notifiers=notifier
    )
    assert (operator.assigned_users, operator.notifiers) == ([user], [notifier])


@pytest.mark.parametrize("priority", [0, 11, 5.5, True, "urgent"])
def test_a_wrong_shinzo_priority_is_refused_when_the_dag_is_read(priority: Any) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        ShinzoTaskOperator(task_id="agent", message="Do it", priority=priority)
    assert str(caught.value) == f"priority must be an integer from 1 to 10, not {priority!r}."


def test_what_is_rendered_later_is_not_judged_when_the_dag_is_read() -> None:
    operator = ShinzoTaskOperator(
        task_id="agent", message="{{ params.message }}", priority="{{ params.priority }}"
    )
    assert operator.priority == "{{ params.priority }}"


@pytest.mark.parametrize(
    ("operator_class", "dialect"),
    [(LightconeTaskOperator, LightconeDialect()), (ShinzoTaskOperator, ShinzoDialect())],
)
def test_every_start_field_is_an_argument_and_a_template(operator_class: Any, dialect: Any) -> None:
    arguments: dict[str, Any] = {dialect.instruction_field: "Do it"}
    operator = operator_class(task_id="agent", **arguments)
    for field in dialect.start_fields:
        assert field.name in operator.template_fields
        assert getattr(operator, field.name) == arguments.get(field.name)
        operator_class(task_id="agent", **{**arguments, field.name: "{{ x }}"})
    assert "conn_id" in operator.template_fields


def test_a_required_field_that_rendered_to_nothing_fails_without_a_retry(run_dag: Any, capfd: Any) -> None:
    run = run_dag("ShinzoTaskOperator(task_id=\"agent\", message=\"{{ params.get('x', '') }}\", retries=1)")
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert "AgentTaskArgumentError: message must be a non-empty string, not ''." in capfd.readouterr().out


def test_webhook_fields_that_rendered_to_what_does_not_fit_fail_without_a_request(
    run_dag: Any, capfd: Any, agent_task_sandbox: Any
) -> None:
    run = run_dag(
        "ShinzoTaskOperator(task_id='agent', message='Do it', webhook_url='{{ \"https://a.b\" }}', retries=1)"
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert "webhook_url needs callback_mode='webhook'; without it" in capfd.readouterr().out
    assert agent_task_sandbox.requests() == []


def test_a_connection_that_does_not_exist_fails_with_a_sentence(run_dag: Any, capfd: Any) -> None:
    run = run_dag('LightconeTaskOperator(task_id="agent", instruction="Do it", conn_id="nope")')
    assert run.task_state("agent") == "failed"
    assert "The connection 'nope' does not exist or could not be read. Add it" in capfd.readouterr().out


def test_a_connection_of_the_other_service_is_refused(run_dag: Any, capfd: Any) -> None:
    run = run_dag('LightconeTaskOperator(task_id="agent", instruction="Do it", conn_id="shinzo_default")')
    assert run.task_state("agent") == "failed"
    assert "has the type 'shinzo', but the task needs lightcone." in capfd.readouterr().out


@pytest.mark.parametrize("states", [[], "finished", ["completed", "unknown"]])
def test_a_sensor_refuses_states_that_do_not_exist(states: Any) -> None:
    with pytest.raises(AgentTaskArgumentError, match="target_states must be one or more of queued, running"):
        AgentTaskSensor(
            task_id="sensor", agent_task_id="tsk_1", conn_id="shinzo_default", target_states=states
        )


def test_a_timeout_may_be_a_timedelta() -> None:
    operator = ShinzoTaskOperator(task_id="agent", message="Do it", timeout=timedelta(minutes=3))
    assert operator.timeout == 180
