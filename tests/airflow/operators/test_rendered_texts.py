"""What templates render to, where a value is missing or was made into something else than a text."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.operators.agent_task import AgentTaskMessageOperator
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor

MISSING = "{{ ti.xcom_pull(task_ids='nobody') }}"
EXPLAINED = "A template renders to None if a value is missing, such as the XCom of a skipped task"
NATIVE = "Set render_template_as_native_obj=False on this task, or start"
TARGET = "agent_task_id='tsk_1', conn_id='lightcone_default'"


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    ("operator", "field", "others"),
    [
        ("LightconeTaskOperator", "instruction", ""),
        ("LightconeTaskOperator", "system_prompt", "instruction='Do it'"),
        ("LightconeTaskOperator", "thread_id", "instruction='Do it'"),
        ("ShinzoTaskOperator", "message", ""),
        ("AgentTaskMessageOperator", "message", TARGET),
        ("AgentTaskMessageOperator", "agent_task_id", "message='Hi', conn_id='shinzo_default'"),
        ("AgentTaskPauseOperator", "agent_task_id", "conn_id='lightcone_default'"),
        ("AgentTaskSensor", "agent_task_id", "conn_id='lightcone_default', deferrable=True"),
        ("AgentTaskSensor", "agent_task_id", "conn_id='lightcone_default', poke_interval=1"),
    ],
)
def test_a_text_without_its_value_is_refused_before_anything_is_sent(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, operator: str, field: str, others: str, native: bool
) -> None:
    if native and field in ("system_prompt", "thread_id"):
        pytest.skip("None means that an optional field is not given")
    run = run_dag(
        f"{operator}(task_id='agent', {field}={MISSING!r}, retries=1, {others + ', ' if others else ''}"
        f"render_template_as_native_obj={native})"
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    out = capfd.readouterr().out
    assert (
        f"{field} is required and must be a non-empty string." in out or f"{field} must be a non-empty" in out
    )
    assert EXPLAINED in out
    assert agent_task_sandbox.requests() == []


@pytest.mark.parametrize(
    "operator", ["ShinzoTaskOperator(message='Do it', ", "AgentTaskCancelOperator(agent_task_id='t', "]
)
def test_an_agent_without_its_value_is_refused(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, operator: str
) -> None:
    run = run_dag(f"{operator} task_id='agent', conn_id='shinzo_default', agent_id={MISSING!r}, retries=1)")
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert "agent_id must be a non-empty id, not 'None'." in capfd.readouterr().out
    assert agent_task_sandbox.requests() == []


@pytest.mark.parametrize("conn_id", ["{{ none }}", "{{ '' }}"])
@pytest.mark.parametrize("native", [False, True])
def test_a_connection_without_its_value_is_named(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, conn_id: str, native: bool
) -> None:
    run = run_dag(
        f"LightconeTaskOperator(task_id='agent', instruction='Do it', conn_id={conn_id!r}, retries=1, "
        f"render_template_as_native_obj={native})"
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    out = capfd.readouterr().out
    assert "conn_id must be a non-empty string, not" in out
    assert agent_task_sandbox.requests() == []


@pytest.mark.parametrize("what", [None, "", " ", 5, ["a"], "None"])
def test_a_lookup_refuses_a_conn_id_that_is_no_name(what: Any) -> None:
    with pytest.raises(AgentTaskArgumentError, match="conn_id must be a non-empty string, not"):
        find_hook(what)


def test_a_function_that_returns_the_text_none_starts_nothing(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    run = run_dag(
        """
        @task.shinzo(retries=1)
        def agent():
            return f"{None}"

        agent()
        """
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert EXPLAINED in capfd.readouterr().out
    assert agent_task_sandbox.tasks() == []


def test_a_default_in_the_template_is_the_way_out(run_dag: Any, agent_task_sandbox: Any) -> None:
    instruction = "{{ ti.xcom_pull(task_ids='nobody') or 'Do the usual.' }}"
    assert run_dag(f"LightconeTaskOperator(task_id='agent', instruction={instruction!r})").state == "success"
    assert [task["request"]["instruction"] for task in agent_task_sandbox.tasks()] == ["Do the usual."]


@pytest.mark.parametrize("text", ['{"order": "milk"}', "['milk', 'bread']", "(1, 2)", "{1, 2}", "True"])
@pytest.mark.parametrize("way", ["LightconeTaskOperator(instruction=", "ShinzoTaskOperator(message="])
def test_a_text_that_becomes_a_native_value_is_explained(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, text: str, way: str
) -> None:
    run = run_dag(f"{way}{text!r}, task_id='agent', retries=1, render_template_as_native_obj=True)")
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    out = capfd.readouterr().out
    assert "must be a non-empty string, not" in out
    assert NATIVE in out
    assert agent_task_sandbox.requests() == []


@pytest.mark.parametrize("text", ['{"order": "milk"}', "['milk', 'bread']"])
def test_the_way_out_of_native_rendering_works(run_dag: Any, agent_task_sandbox: Any, text: str) -> None:
    run = run_dag(
        f"LightconeTaskOperator(task_id='a', instruction={text!r}, render_template_as_native_obj=False)\n"
        f"ShinzoTaskOperator(task_id='b', message='Do ' + {text!r}, render_template_as_native_obj=True)"
    )
    assert run.state == "success"
    requests = [task["request"] for task in agent_task_sandbox.tasks()]
    assert {one.get("instruction") or one.get("message") for one in requests} == {text, f"Do {text}"}


# --- names that are misspelt, where another argument is missing -------------------------------------------

MISSPELT = [
    (LightconeTaskOperator, "instructions", "instruction"),
    (ShinzoTaskOperator, "mesage", "message"),
    (AgentTaskMessageOperator, "agent_taskid", "agent_task_id"),
    (AgentTaskSensor, "agent_task", "agent_task_id"),
]


@pytest.mark.parametrize(("operator", "wrong", "meant"), MISSPELT)
@pytest.mark.filterwarnings("ignore:.*was never mapped")
def test_a_misspelt_name_is_named_although_its_argument_is_missing(
    operator: Any, wrong: str, meant: str
) -> None:
    message = f"{operator.__name__} has no argument '{wrong}'; did you mean '{meant}'?"
    for build in (
        lambda: operator(task_id="agent", **{wrong: "x"}),
        lambda: operator.partial(task_id="agent", **{wrong: "x"}),
        lambda: operator.partial(task_id="agent").expand(**{wrong: ["x"]}),
        lambda: operator.partial(task_id="agent").expand_kwargs([{wrong: "x"}]),
    ):
        with pytest.raises(AgentTaskArgumentError) as caught:
            build()
        assert str(caught.value) == message


@pytest.mark.parametrize(("operator", "wrong", "meant"), MISSPELT)
def test_a_misspelt_name_that_another_task_returns_is_named(
    run_dag: Any, capfd: Any, operator: Any, wrong: str, meant: str
) -> None:
    run = run_dag(
        f"""
        @task
        def plan():
            return [{{{wrong!r}: "x"}}]

        {operator.__name__}.partial(task_id="agent").expand_kwargs(plan())
        """
    )
    assert run.state == "failed"
    message = f"{operator.__name__} has no argument '{wrong}'; did you mean '{meant}'?"
    assert message in capfd.readouterr().out


def test_a_missing_argument_alone_is_named_by_airflow() -> None:
    with pytest.raises(TypeError, match="missing keyword argument 'instruction'"):
        LightconeTaskOperator(task_id="agent")
