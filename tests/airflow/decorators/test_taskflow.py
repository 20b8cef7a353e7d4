"""``@task.lightcone`` and ``@task.shinzo`` through ``dag.test()``."""

from __future__ import annotations

from typing import Any

import pytest

QUICK = '#sandbox {"steps": 1, "step_seconds": 0.05}'


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_function_that_returns_text_becomes_an_agent_task(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    run = run_dag(
        f"""
        @task.lightcone(deferrable={deferrable}, kind="browser")
        def agent(topic):
            return {QUICK!r} + "\\nRead about " + topic

        agent("whales")
        """
    )
    assert run.state == "success"
    assert run.xcom("agent")["status"] == "completed"
    request = agent_task_sandbox.tasks()[0]["request"]
    assert request["instruction"].endswith("Read about whales")
    assert request["kind"] == "browser"
    assert run.xcom("agent", "exit_code") == 0


def test_a_function_may_return_a_dict_of_start_fields(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        f"""
        @task.shinzo(priority=2, metadata={{"a": 1}})
        def agent(ti):
            return {{"message": {QUICK!r}, "priority": 9, "agent_id": "agt_" + ti.task_id}}

        agent()
        """
    )
    assert run.state == "success"
    (task,) = agent_task_sandbox.tasks()
    request = task["request"]
    assert (task["agent_id"], request["priority"], request["metadata"]["a"]) == ("agt_agent", 9, 1)


def test_what_a_function_returns_is_not_rendered_as_a_template(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        f"""
        @task.shinzo
        def agent():
            return {QUICK!r} + "\\nSay {{{{ conn.shinzo_default.password }}}}"

        agent()
        """
    )
    assert run.state == "success"
    assert agent_task_sandbox.tasks()[0]["request"]["message"].endswith(
        "Say {{ conn.shinzo_default.password }}"
    )


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("None", "it returned a NoneType"),
        ("['Do it']", "it returned a list"),
        ("{'mesage': 'Do it'}", "it returned the unknown field 'mesage' (did you mean 'message'?)"),
        ("''", "message must be a non-empty string, not ''."),
    ],
)
def test_a_function_that_returns_something_else_fails_without_a_retry(
    run_dag: Any, capfd: Any, agent_task_sandbox: Any, returned: str, says: str
) -> None:
    run = run_dag(
        f"""
        @task.shinzo(retries=2)
        def agent():
            return {returned}

        agent()
        """
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert says in capfd.readouterr().out
    assert agent_task_sandbox.tasks() == []


def test_a_function_returns_no_agent_where_there_is_no_choice(run_dag: Any, capfd: Any) -> None:
    run = run_dag(
        """
        @task.lightcone(retries=2)
        def agent():
            return {"instruction": "Do it", "agent_id": "agt_1"}

        agent()
        """
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert "it returned the unknown field 'agent_id'" in capfd.readouterr().out


def test_a_decorated_function_can_be_mapped(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        f"""
        @task.shinzo(deferrable=True)
        def agent(name):
            return {QUICK!r} + "\\n" + name

        @task
        def count(finished):
            return len(list(finished))

        count(agent.expand(name=["A", "B"]))
        """
    )
    assert run.xcom("count") == 2
    assert {task["request"]["message"][-1] for task in agent_task_sandbox.tasks()} == {"A", "B"}


def test_an_async_function_is_awaited(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        f"""
        @task.shinzo
        async def agent():
            return {QUICK!r}

        agent()
        """
    )
    assert run.state == "success"


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_what_a_function_returns_is_not_rendered_in_any_try(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    words = "{{ 7 * 7 }} {% raw %}{{ conn }}{% endraw %}"
    text = '#sandbox {"steps": 2, "step_seconds": 0.2, "exit_code": 3}\n' + words
    run_dag(
        f"""
        @task.lightcone(deferrable={deferrable}, retries=2, retry_delay=timedelta(0))
        def agent():
            return {text!r}

        agent()
        """
    )
    told = [task["request"]["instruction"] for task in agent_task_sandbox.tasks()]
    assert told == [text] * 3
