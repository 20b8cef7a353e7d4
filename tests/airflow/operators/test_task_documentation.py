"""The documentation that the Airflow UI shows on a task's page: the author's, else the operator's."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_agent_tasks.documentation import link
from airflow_agent_tasks.operators.agent_task import AgentTaskCancelOperator
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor

OF_A_RUNNING_TASK = {"agent_task_id": "tsk_1", "conn_id": "shinzo_default"}
OPERATORS: dict[type, dict[str, Any]] = {
    LightconeTaskOperator: {"instruction": "x"},
    ShinzoTaskOperator: {"message": "x"},
    AgentTaskCancelOperator: OF_A_RUNNING_TASK,
    AgentTaskSensor: OF_A_RUNNING_TASK,
}


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_a_task_shows_what_it_does_and_where_to_read_on(operator: Any) -> None:
    arguments = OPERATORS[operator]
    mapped = {name: [value] for name, value in arguments.items()}
    with DAG("documented"):
        single = operator(task_id="single", **arguments)
        several = operator.partial(task_id="several").expand_kwargs([arguments])
        expanded = operator.partial(task_id="expanded").expand(**mapped)
    summary = operator.__doc__.strip().partition("\n\n")[0]
    assert single.doc_md.split()[: len(summary.split())] == summary.split()
    assert f"]({link('how-to/debug-a-stuck-task')})" in single.doc_md
    assert several.doc_md == expanded.doc_md == single.doc_md


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
@pytest.mark.parametrize("name", ["doc", "doc_md", "doc_rst"])
def test_the_author_s_own_documentation_is_kept(operator: Any, name: str) -> None:
    arguments = OPERATORS[operator]
    with DAG("documented", default_args={name: "of the DAG"}):
        inherits = operator(task_id="inherits", **arguments)
        mapped = operator.partial(task_id="mapped").expand_kwargs([arguments])
        own = operator(task_id="own", **arguments, **{name: "its own"})
        mapped_own = operator.partial(task_id="mapped_own", **{name: "its own"}).expand_kwargs([arguments])
    assert [getattr(one, name) for one in (inherits, own)] == ["of the DAG", "its own"]
    assert [one.partial_kwargs.get(name) for one in (mapped, mapped_own)] == ["of the DAG", "its own"]
    if name != "doc_md":
        assert {one.doc_md for one in (inherits, mapped, own, mapped_own)} == {None}


def test_a_decorated_function_documents_its_task() -> None:
    with DAG("documented"):

        @task.shinzo
        def research() -> str:
            """Find out who they are."""
            return "x"

        @task.shinzo
        def plain() -> str:
            return "x"

        found = research().operator, plain().operator
    assert found[0].doc_md == "Find out who they are."
    assert link("reference/xcom") in found[1].doc_md
