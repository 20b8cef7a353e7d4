"""What a failure leaves for users: a line in the log, the XCom ``error``, and our exception in callbacks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_agent_tasks.documentation import link

LONG = '#sandbox {"steps": 200, "step_seconds": 10}'


@dataclass(frozen=True)
class Failure:
    """
    A way to fail.

    :param operator: The operator's class and its arguments.
    :param kind: The exception's class.
    :param said: What the log line and the XCom say.
    :param retry: What the line says about a retry.
    :param status: Of the agent task in the exception; None where none was seen.
    :param faults: Rules of the sandbox.
    """

    operator: str
    kind: str
    said: str
    retry: str
    status: str | None
    faults: tuple[dict[str, Any], ...] = ()


def script(service: str, **keys: Any) -> str:
    # In JSON's own escapes, so that Airflow does not render what the agent is to say.
    text = "#sandbox " + json.dumps({"steps": 1, "step_seconds": 0, **keys}).replace("{{", r"\u007b\u007b")
    field, kind = ("instruction", "Lightcone") if service == "lightcone" else ("message", "Shinzo")
    return f"{kind}TaskOperator(task_id='agent', {field}={text!r}"


LAST_TRY = "Airflow does not retry the task: this was try 2 of 2."
SAME_AGAIN = "Airflow does not retry the task: a retry would fail in the same way."
FAILURES = {
    "failed with words": Failure(
        script("shinzo", status="failed", result="No such\n{{ page }} %s"),
        "AgentTaskFailedError",
        "The agent said: 'No such {{ page }} %s'.",
        LAST_TRY,
        "failed",
    ),
    "failed with a dict": Failure(
        script("shinzo", status="failed", result={"why": "no money"}),
        "AgentTaskFailedError",
        """The agent said: '{"why": "no money"}'.""",
        LAST_TRY,
        "failed",
    ),
    "exit code": Failure(
        script("lightcone", exit_code=3), "AgentTaskFailedError", "exit code 3", LAST_TRY, "failed"
    ),
    "exit code that is not retried": Failure(
        script("lightcone", exit_code=3) + ", no_retry_on_exit_code=3",
        "AgentTaskFailedError",
        "exit code 3",
        "Airflow does not retry the task: exit code 3 is one of no_retry_on_exit_code.",
        "failed",
    ),
    "cancelled": Failure(
        script("shinzo", status="cancelled"),
        "AgentTaskCancelledError",
        "was cancelled on the service",
        LAST_TRY,
        "cancelled",
    ),
    "timeout": Failure(
        f"ShinzoTaskOperator(task_id='agent', message={LONG!r}, timeout=0.3",
        "AgentTaskTimeoutError",
        "did not end within its timeout of 0.3 s. It was stopped",
        LAST_TRY,
        "cancelled",
    ),
    "execution_timeout": Failure(
        f"LightconeTaskOperator(task_id='agent', instruction={LONG!r}, "
        "execution_timeout=timedelta(seconds=2)",
        "AgentTaskTimeoutError",
        "execution_timeout of 2 s",
        LAST_TRY,
        "paused",
    ),
    "question": Failure(
        script("shinzo", steps=2, ask=["Which\none?"]) + ", on_awaiting_input='fail'",
        "AgentTaskInputRequiredError",
        "asks 'Which one?', and on_awaiting_input is 'fail'. It was stopped",
        LAST_TRY,
        "awaiting_input",
    ),
    "start that was not answered": Failure(
        script("shinzo"),
        "AgentTaskUncertainError",
        "may have been carried out",
        "Airflow does not retry the task: the request may have been carried out, and a retry could do the "
        "work twice.",
        None,
        ({"method": "POST", "drop": "after"},),
    ),
    "key that is refused while waiting": Failure(
        f"ShinzoTaskOperator(task_id='agent', message={LONG!r}",
        "AgentTaskAuthenticationError",
        "answered 401",
        SAME_AGAIN,
        "queued",
        ({"method": "GET", "status": 401, "times": 9},),
    ),
    "wrong argument": Failure(
        "ShinzoTaskOperator(task_id='agent', message='Do it', priority='{{ 99 }}'",
        "AgentTaskArgumentError",
        "priority must be",
        SAME_AGAIN,
        None,
    ),
    "no connection": Failure(
        "ShinzoTaskOperator(task_id='agent', message='Do it', conn_id='nope'",
        "AgentTaskConnectionNotFoundError",
        "'nope' does not exist",
        LAST_TRY,
        None,
    ),
}
CALLBACK = """
def note(context):
    import json
    from airflow_agent_tasks.errors import AgentTaskError

    error = context["exception"]
    assert isinstance(error, AgentTaskError), type(error)
    status = error.task.status.value if error.task else None
    print("CALLBACK", json.dumps([type(error).__name__, status, str(error)]))

"""


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_a_failure_leaves_a_line_an_error_and_our_exception(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, name: str, deferrable: bool
) -> None:
    failure = FAILURES[name]
    agent_task_sandbox.faults(list(failure.faults))
    run = run_dag(
        f"{CALLBACK}{failure.operator}, deferrable={deferrable}, retries=1, retry_delay=timedelta(0), "
        "on_failure_callback=note)"
    )
    assert run.task_state("agent") == "failed"
    printed = capfd.readouterr().out
    (line,) = [line for line in printed.splitlines() if failure.retry in line]
    assert failure.said in line
    assert "error" in line
    page = link(f"reference/errors#airflow_agent_tasks.errors.{failure.kind}")
    assert f"See {page}" in line
    assert printed.index(failure.retry) < printed.rindex("Task failed with exception")
    error = run.xcom("agent", "error")
    assert failure.said in error
    assert "\n" not in error
    assert "CALLBACK" in printed, printed
    kind, status, said = json.loads(re.findall("CALLBACK (.*)", printed)[-1])
    assert (kind, status) == (failure.kind, failure.status)
    assert failure.said in said


def test_a_failure_that_is_retried_says_so_and_a_success_leaves_no_error(run_dag: Any, capfd: Any) -> None:
    text = '#sandbox {"steps": 1, "step_seconds": 0, "exit_code": {{ 3 if ti.try_number == 1 else 0 }}}'
    run = run_dag(
        f"LightconeTaskOperator(task_id='agent', instruction={text!r}, retries=1, retry_delay=timedelta(0))"
    )
    assert (run.state, run.tries("agent")) == ("success", 2)
    assert (
        "exit code 3) did not succeed. Airflow retries the task: try 2 of 2 is next."
        in capfd.readouterr().out
    )
    assert run.xcom("agent", "error") is None


def test_a_task_that_pushes_no_xcom_leaves_no_error(run_dag: Any) -> None:
    run = run_dag(script("lightcone", exit_code=3) + ", do_xcom_push=False)")
    assert run.task_state("agent") == "failed"
    assert run.xcom("agent", "error") is None


def test_a_failure_is_the_same_if_xcom_cannot_be_written(run_dag: Any, capfd: Any) -> None:
    run = run_dag(
        f"""
        class CannotPush(LightconeTaskOperator):
            def execute(self, context):
                push = context["ti"].xcom_push

                def fail_at_the_error(key, value):
                    if key == "error":
                        raise RuntimeError("no XCom today")
                    push(key=key, value=value)

                object.__setattr__(context["ti"], "xcom_push", fail_at_the_error)
                return super().execute(context)

        {script("lightcone", exit_code=3).replace("LightconeTaskOperator", "CannotPush")})
        """
    )
    printed = capfd.readouterr().out
    assert run.task_state("agent") == "failed"
    assert "Could not push the error to XCom: RuntimeError('no XCom today')" in printed
    assert "AgentTaskFailedError: lightcone agent task" in printed


OTHERS = {
    "sensor": (
        "chain(start, AgentTaskSensor(task_id='agent', TARGET, target_states='running', deferrable={}))",
        "can no longer reach the state running. The agent said: 'No such page'.",
    ),
    "action": (
        "chain(start, AgentTaskPauseOperator(task_id='agent', TARGET))",
        "Shinzo has no pause",
    ),
    "decorator": (
        "@task.shinzo(task_id='agent')\ndef ask():\n    return 5\n\nstart >> ask()",
        "it returned a int",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_sensors_actions_and_decorators_leave_a_line_and_an_error_too(
    run_dag: Any, capfd: Any, name: str, deferrable: bool
) -> None:
    body, said = OTHERS[name]
    target = "agent_task_id=start.output['task_id'], conn_id='shinzo_default'"
    started = script("shinzo", status="failed", result="No such page").replace("'agent'", "'start'")
    body = body.replace("TARGET", target).replace("{}", str(deferrable))
    run = run_dag(f"start = {started}, wait_for_completion=False)\n{body}")
    assert run.task_state("agent") == "failed"
    assert said in run.xcom("agent", "error")
    printed = capfd.readouterr().out
    (line,) = [line for line in printed.splitlines() if SAME_AGAIN in line]
    assert said in line
