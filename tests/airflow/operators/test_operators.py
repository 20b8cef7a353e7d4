"""The two task operators through ``dag.test()``: what a user gets, and what happens when it goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

BOTH_MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])
QUICK = {"steps": 2, "step_seconds": 0.05}


def lightcone(script: dict[str, Any] | None = None, **arguments: Any) -> str:
    """Return the source of a Lightcone operator whose agent follows the script."""
    return operator("LightconeTaskOperator", "instruction", script or {}, arguments)


def shinzo(script: dict[str, Any] | None = None, **arguments: Any) -> str:
    """Return the source of a Shinzo operator whose agent follows the script."""
    return operator("ShinzoTaskOperator", "message", script or {}, arguments)


def operator(name: str, field: str, script: dict[str, Any], arguments: dict[str, Any]) -> str:
    given = {
        "task_id": "agent",
        field: f"#sandbox {json.dumps({**QUICK, **script})}\nDo it",
        **arguments,
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"


def starts(sandbox: Any) -> int:
    return sum(task["times_started"] for task in sandbox.tasks())


@BOTH_MODES
def test_lightcone_result_and_exit_code_reach_xcom(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    run = run_dag(lightcone(deferrable=deferrable))
    (started,) = agent_task_sandbox.tasks()
    assert run.state == "success"
    assert run.xcom("agent") == {
        "service": "lightcone",
        "task_id": started["task_id"],
        "agent_id": None,
        "status": "completed",
        "remote_status": "completed",
        "exit_code": 0,
        "result": None,
        "question": None,
        "progress": None,
        "usage": None,
        "created_at": None,
        "started_at": None,
        "completed_at": None,
    }
    assert run.xcom("agent", "task_id") == started["task_id"]
    assert run.xcom("agent", "status") == "completed"
    assert run.xcom("agent", "exit_code") == 0


@BOTH_MODES
def test_shinzo_result_reaches_xcom(run_dag: Any, agent_task_sandbox: Any, deferrable: bool) -> None:
    run = run_dag(shinzo({"result": {"findings": [1, 2]}}, deferrable=deferrable, agent_id="agt_reviewer"))
    returned = run.xcom("agent")
    assert (returned["service"], returned["status"], returned["agent_id"]) == (
        "shinzo",
        "completed",
        "agt_reviewer",
    )
    assert returned["result"] == {"findings": [1, 2]}
    assert returned["completed_at"].endswith("Z")
    assert run.xcom("agent", "exit_code") is None


def test_shinzo_uses_the_agent_of_the_connection_when_none_is_named(
    run_dag: Any, agent_task_sandbox: Any
) -> None:
    assert run_dag(shinzo(deferrable=True)).xcom("agent")["agent_id"] == "agt_sandbox"


@BOTH_MODES
def test_a_failed_agent_task_fails_the_task_and_leaves_its_exit_code(
    run_dag: Any, capfd: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    run = run_dag(lightcone({"exit_code": 3}, deferrable=deferrable))
    (task,) = agent_task_sandbox.tasks()
    assert run.task_state("agent") == "failed"
    assert run.xcom("agent", "exit_code") == 3
    assert run.xcom("agent", "status") == "failed"
    assert run.xcom("agent", "task_id") == task["task_id"]
    assert (
        f"lightcone agent task {task['task_id']} (status failed, exit code 3) did not succeed"
        in capfd.readouterr().out
    )


def test_the_failure_says_what_the_agent_said_on_one_bounded_line(run_dag: Any, capfd: Any) -> None:
    run = run_dag(shinzo({"status": "failed", "result": "No such\npage" + "!" * 5000}))
    printed = capfd.readouterr().out
    assert run.task_state("agent") == "failed"
    assert "(status failed) did not succeed. The agent said: 'No such page!!!" in printed
    assert "!" * 2100 not in printed


@BOTH_MODES
def test_an_agent_task_cancelled_on_the_service_fails_the_task(
    run_dag: Any, capfd: Any, deferrable: bool
) -> None:
    run = run_dag(shinzo({"status": "cancelled"}, deferrable=deferrable))
    assert run.task_state("agent") == "failed"
    assert run.xcom("agent", "status") == "cancelled"
    assert "was cancelled on the service" in capfd.readouterr().out


@BOTH_MODES
@pytest.mark.parametrize("rule", [99, [7, 99]])
def test_skip_on_exit_code_leaves_the_task_skipped(run_dag: Any, deferrable: bool, rule: Any) -> None:
    run = run_dag(lightcone({"exit_code": 99}, deferrable=deferrable, skip_on_exit_code=rule))
    assert run.task_state("agent") == "skipped"
    assert run.xcom("agent", "exit_code") == 99


@pytest.mark.parametrize(("exit_code", "tries", "tasks"), [(2, 1, 1), (1, 2, 2)])
def test_no_retry_on_exit_code_spares_the_retries(
    run_dag: Any, agent_task_sandbox: Any, exit_code: int, tries: int, tasks: int
) -> None:
    body = lightcone({"exit_code": exit_code}, retries=1, no_retry_on_exit_code=2)
    run = run_dag(body.replace("retries=1", "retries=1, retry_delay=timedelta(0)"))
    assert run.task_state("agent") == "failed"
    assert run.tries("agent") == tries
    assert starts(agent_task_sandbox) == tasks


@BOTH_MODES
def test_a_question_is_returned_when_that_is_the_policy(run_dag: Any, deferrable: bool) -> None:
    run = run_dag(shinzo({"ask": ["Which one?"]}, deferrable=deferrable, on_awaiting_input="return"))
    assert run.state == "success"
    assert run.xcom("agent")["status"] == "awaiting_input"
    assert run.xcom("agent", "question") == "Which one?"
    assert run.xcom("agent", "progress")["total_steps"] == 2


@pytest.mark.parametrize(("source", "left"), [(shinzo, "cancelled"), (lightcone, "paused")])
def test_a_question_stops_the_agent_task_and_fails_when_that_is_the_policy(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, source: Any, left: str
) -> None:
    run = run_dag(source({"ask": ["Which one?"]}, deferrable=True, on_awaiting_input="fail"))
    assert run.task_state("agent") == "failed"
    assert "asks 'Which one?'" in capfd.readouterr().out
    assert [task["status"] for task in agent_task_sandbox.tasks()] == [left]


@BOTH_MODES
@pytest.mark.parametrize(
    ("source", "on_timeout", "left"),
    [(shinzo, "stop", "cancelled"), (lightcone, "stop", "paused"), (shinzo, "leave", "running")],
)
def test_a_timeout_fails_the_task_and_stops_or_leaves_the_agent_task(
    run_dag: Any,
    agent_task_sandbox: Any,
    capfd: Any,
    deferrable: bool,
    source: Any,
    on_timeout: str,
    left: str,
) -> None:
    body = source(
        {"steps": 100, "step_seconds": 1}, deferrable=deferrable, timeout=0.3, on_timeout=on_timeout
    )
    run = run_dag(body)
    assert run.task_state("agent") == "failed"
    assert [task["status"] for task in agent_task_sandbox.tasks()] == [left]
    printed = capfd.readouterr().out
    assert "did not end within its timeout of 0.3 s" in printed
    assert ("It was stopped" if on_timeout == "stop" else "It was left running") in printed


def test_without_waiting_the_operator_returns_what_was_started(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(shinzo({"steps": 100}, wait_for_completion=False))
    (task,) = agent_task_sandbox.tasks()
    assert run.xcom("agent")["task_id"] == run.xcom("agent", "task_id") == task["task_id"]
    assert run.xcom("agent")["status"] == "queued"


def test_a_mapped_operator_starts_one_agent_task_for_each_item(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        """
        @task
        def names():
            return ["A", "B", "C"]

        @task
        def collect(finished):
            return sorted(item["result"]["name"] for item in finished)

        def script(name):
            return f'#sandbox {{"steps": 1, "step_seconds": 0, "result": {{"name": "{name}"}}}}'

        agent = ShinzoTaskOperator.partial(task_id="agent", deferrable=True, priority=3).expand(
            message=names().map(script)
        )
        collect(agent.output)
        """
    )
    assert run.xcom("collect") == ["A", "B", "C"]
    assert starts(agent_task_sandbox) == 3
    assert {task["request"]["priority"] for task in agent_task_sandbox.tasks()} == {3}


def test_expand_kwargs_maps_over_several_start_fields(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        """
        LightconeTaskOperator.partial(task_id="agent", deferrable=True).expand_kwargs([
            {"instruction": '#sandbox {"steps": 1, "step_seconds": 0}', "kind": "browser"},
            {"instruction": '#sandbox {"steps": 1, "step_seconds": 0}', "kind": "desktop", "max_steps": 5},
        ])
        """
    )
    assert run.state == "success"
    requests = [task["request"] for task in agent_task_sandbox.tasks()]
    assert {request["kind"] for request in requests} == {"browser", "desktop"}
    assert len({request["idempotency_key"] for request in requests}) == 2


def test_templates_are_rendered_and_read_as_what_their_field_holds(
    run_dag: Any, agent_task_sandbox: Any
) -> None:
    run = run_dag(
        """
        LightconeTaskOperator(
            task_id="agent",
            instruction='#sandbox {"steps": 1, "step_seconds": 0}\\nIn {{ run_id }}',
            max_steps="{{ 4 + 3 }}",
            temperature="{{ 0.5 }}",
            persistent="{{ true }}",
            metadata={"dag": "{{ dag.dag_id }}"},
            context=[{"role": "user", "content": "{{ task.task_id }}"}],
            conn_id="{{ 'lightcone_default' }}",
        )
        """
    )
    assert run.state == "success"
    request = agent_task_sandbox.tasks()[0]["request"]
    assert request["instruction"].endswith(f"In {run.dag_run.run_id}")
    assert (request["max_steps"], request["temperature"], request["persistent"]) == (7, 0.5, True)
    assert request["metadata"] == {"dag": run.dag_run.dag_id}
    assert request["context"] == [{"role": "user", "content": "agent"}]


def test_another_tasks_output_may_be_any_start_field(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        """
        @task
        def limits():
            return 9

        ShinzoTaskOperator(
            task_id="agent", message='#sandbox {"steps": 1, "step_seconds": 0}', priority=limits()
        )
        """
    )
    assert run.state == "success"
    assert agent_task_sandbox.tasks()[0]["request"]["priority"] == 9


def test_default_args_reach_the_operator(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        """
        test_dag.default_args.update(priority=2, agent_id="agt_default", wait_for_completion=False)
        ShinzoTaskOperator(task_id="agent", message="Do it")
        """
    )
    (task,) = agent_task_sandbox.tasks()
    assert (task["agent_id"], task["request"]["priority"]) == ("agt_default", 2)
    assert run.xcom("agent")["status"] == "queued"


def test_nothing_is_pushed_when_the_user_wants_no_xcom(run_dag: Any) -> None:
    run = run_dag(lightcone(do_xcom_push=False))
    assert run.state == "success"
    assert [run.xcom("agent", key) for key in ("return_value", "task_id", "exit_code")] == [None, None, None]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"status": 401}, "answered 401"),
        ({"status": 403}, "answered 403"),
        ({"status": 400}, "answered 400"),
        ({"status": 422}, "answered 422"),
    ],
)
def test_a_refused_start_is_neither_repeated_nor_retried(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, fault: dict[str, Any], says: str
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": ".*", "times": 5, **fault}])
    run = run_dag(lightcone(retries=2))
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert len(agent_task_sandbox.requests()) == 1
    printed = capfd.readouterr().out
    assert "Could not start an agent task: Lightcone " + says in printed
    assert "sk_sandbox" not in printed


def test_a_start_left_without_an_answer_on_shinzo_is_not_repeated(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "/agent/request", "drop": "after"}])
    run = run_dag(shinzo(retries=2))
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert starts(agent_task_sandbox) == 1
    assert "may have been carried out: check the service" in capfd.readouterr().out


def test_a_start_left_without_an_answer_on_lightcone_is_repeated_under_its_key(
    run_dag: Any, agent_task_sandbox: Any
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "/agent/tasks", "drop": "after"}])
    run = run_dag(lightcone())
    assert run.state == "success"
    assert starts(agent_task_sandbox) == 1


def test_an_unknown_agent_fails_the_task_with_the_services_words(run_dag: Any, capfd: Any) -> None:
    run = run_dag(shinzo(agent_id="agt_unknown"))
    assert run.task_state("agent") == "failed"
    assert "Could not submit a task to agent 'agt_unknown': Shinzo answered 404" in capfd.readouterr().out


def test_an_unavailable_agent_is_asked_again_and_then_fails_the_task(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    # Told to stay away for longer than a request is repeated for, so that nothing is waited for here.
    unavailable = {"status": 503, "headers": {"Retry-After": "600"}}
    agent_task_sandbox.faults([{"method": "POST", "path": "/agent/request", "times": 2, **unavailable}])
    run = run_dag(shinzo(retries=1).replace("retries=1", "retries=1, retry_delay=timedelta(0)"))
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 2)
    assert "Shinzo answered 503" in capfd.readouterr().out
    assert [request["status"] for request in agent_task_sandbox.requests()] == [503, 503]


@BOTH_MODES
@pytest.mark.parametrize("status", [429, 500, 502, 520, 529])
def test_failures_while_waiting_are_waited_out(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool, status: int
) -> None:
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "status": status}])
    run = run_dag(lightcone(deferrable=deferrable, poll_interval=0.05))
    assert run.state == "success"
    assert starts(agent_task_sandbox) == 1


@BOTH_MODES
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_while_waiting_ends_the_wait_after_one_reply(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool, status: int
) -> None:
    # The first check of a deferred wait is the worker's, so that the second reply is the trigger's.
    script = {"steps": 100, "step_seconds": 1}
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "times": 1, "delay_seconds": 0}])
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "times": 9, "status": status}])
    run = run_dag(lightcone(script, deferrable=deferrable))
    assert run.task_state("agent") == "failed"
    answers = [request["status"] for request in agent_task_sandbox.requests()]
    assert answers.count(status) == 1
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["running"]


@BOTH_MODES
def test_the_404_of_a_gateway_neither_ends_the_wait_nor_starts_a_second_agent(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    page = {"status": 404, "body": "<html>default backend - 404</html>", "times": 3}
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", **page}])
    run = run_dag(lightcone(deferrable=deferrable, poll_interval=0.05, retries=2))
    assert (run.state, run.tries("agent")) == ("success", 1)
    assert starts(agent_task_sandbox) == 1


def test_an_unknown_status_word_counts_as_active(run_dag: Any, agent_task_sandbox: Any, capfd: Any) -> None:
    reply = json.dumps({"task_id": "tsk_1", "status": "reticulating"})
    headers = {"Content-Type": "application/json"}
    agent_task_sandbox.faults(
        [{"method": "GET", "path": ".*", "times": 3, "status": 200, "body": reply, "headers": headers}]
    )
    run = run_dag(lightcone())
    assert run.state == "success"
    assert capfd.readouterr().out.count("the service says 'reticulating'") == 1


def test_the_progress_of_a_waiting_task_is_in_xcom(run_dag: Any) -> None:
    run = run_dag(shinzo({"steps": 3, "step_seconds": 0.2}, poll_interval=0.05, deferrable=False))
    assert run.xcom("agent", "progress")["total_steps"] == 3


def test_the_base_operator_renders_its_start_fields(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        """
        @task
        def priority():
            return 4

        AgentTaskOperator(
            task_id="agent",
            conn_id="shinzo_default",
            start_fields={
                "message": '#sandbox {"steps": 1, "step_seconds": 0}\\nSay {{ 1 + 1 }}',
                "priority": priority(),
            },
        )
        """
    )
    assert run.state == "success"
    request = agent_task_sandbox.tasks()[0]["request"]
    assert (request["message"].splitlines()[1], request["priority"]) == ("Say 2", 4)


def test_native_templates_may_make_numbers_of_texts(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        """
        test_dag.render_template_as_native_obj = True
        LightconeTaskOperator(
            task_id="agent", instruction="Do it", thread_id="{{ 20260101 }}", wait_for_completion=False
        )
        """
    )
    assert run.state == "success"
    assert agent_task_sandbox.tasks()[0]["request"]["thread_id"] == "20260101"
