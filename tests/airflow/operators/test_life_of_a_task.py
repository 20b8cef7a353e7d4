"""Retries, time limits and odd resumptions through ``dag.test()``: one agent task, and never one too many."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, TaskDeferred
from airflow.sdk.execution_time import comms, task_runner
from airflow.state import TaskScope, get_state_backend
from pytest_mock import MockerFixture

from airflow_agent_tasks.errors import AgentTaskError, AgentTaskTimeoutError
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from tests.airflow.conftest import LONG_SCRIPT

QUICK = '#sandbox {"steps": 2, "step_seconds": 0.05, "result": {"answer": 42}}'
#: Surely not over at the worker's first check, so that it defers.
STILL_RUNNING = '#sandbox {"steps": 2, "step_seconds": 4, "result": {"answer": 42}}'
ASKS = '#sandbox {"steps": 2, "step_seconds": 0, "ask": ["Which?"]}'
BOTH_MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])


def left(sandbox: Any) -> list[str]:
    return [task["status"] for task in sandbox.tasks()]


@BOTH_MODES
@pytest.mark.parametrize("kind", ["LightconeTaskOperator", "ShinzoTaskOperator"])
def test_a_retry_goes_on_with_the_agent_task_of_the_try_before(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, kind: str, deferrable: bool
) -> None:
    field = "instruction" if kind.startswith("Lightcone") else "message"
    run = run_dag(
        f"""
        class LosesItsFirstTry({kind}):
            def execute(self, context):
                if context["ti"].try_number == 1:
                    from airflow_agent_tasks.hooks.find_hook import find_hook

                    class Lost(type(find_hook(self.conn_id))):
                        def get_task(self, *args, **kwargs):
                            raise RuntimeError("this try is lost")

                    self.hook = Lost(self.conn_id)
                return super().execute(context)

        LosesItsFirstTry(
            task_id="agent", {field}={QUICK!r}, deferrable={deferrable}, retries=1, retry_delay=timedelta(0)
        )
        """
    )
    assert (run.state, run.tries("agent")) == ("success", 2)
    assert left(agent_task_sandbox) == ["completed"]
    assert ", started by try 1, " in capfd.readouterr().out
    assert run.xcom("agent")["task_id"] == agent_task_sandbox.tasks()[0]["task_id"]


@BOTH_MODES
@pytest.mark.parametrize("kind", ["LightconeTaskOperator", "ShinzoTaskOperator"])
def test_a_retry_after_a_timeout_that_stopped_starts_anew(
    run_dag: Any, agent_task_sandbox: Any, kind: str, deferrable: bool
) -> None:
    field = "instruction" if kind.startswith("Lightcone") else "message"
    stopped = "paused" if kind.startswith("Lightcone") else "cancelled"
    run = run_dag(
        f"""
        {kind}(
            task_id="agent", {field}={LONG_SCRIPT!r}, deferrable={deferrable}, timeout=0.3, retries=1,
            retry_delay=timedelta(0),
        )
        """
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 2)
    assert left(agent_task_sandbox) == [stopped, stopped]


def test_a_timeout_counts_from_the_start_through_the_retries(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    run = run_dag(
        f"""
        ShinzoTaskOperator(
            task_id="agent", message={LONG_SCRIPT!r}, timeout=0.3, on_timeout="leave", retries=2,
            retry_delay=timedelta(0),
        )
        """
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 3)
    assert left(agent_task_sandbox) == ["running"]
    assert capfd.readouterr().out.count("did not end within its timeout of 0.3 s. It was left running.") >= 3


@BOTH_MODES
@pytest.mark.parametrize(("on_timeout", "status"), [("stop", "cancelled"), ("leave", "running")])
def test_airflows_execution_timeout_stops_or_leaves_the_agent_task_in_both_modes(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool, on_timeout: str, status: str
) -> None:
    run = run_dag(
        f"""
        ShinzoTaskOperator(
            task_id="agent", message={LONG_SCRIPT!r}, deferrable={deferrable}, on_timeout={on_timeout!r},
            execution_timeout=timedelta(seconds=3), poll_interval=5,
        )
        """
    )
    assert run.task_state("agent") == "failed"
    assert left(agent_task_sandbox) == [status]


def test_an_execution_timeout_in_the_middle_of_a_request_stops_the_agent_task(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "delay_seconds": 9}])
    run = run_dag(
        f"""
        LightconeTaskOperator(
            task_id="agent", instruction={LONG_SCRIPT!r}, execution_timeout=timedelta(seconds=3), retries=1,
            retry_delay=timedelta(0), wait_for_completion=True,
        )
        """
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 2)
    # A busy machine may spend all seconds of one try before its start.
    assert set(left(agent_task_sandbox)) == {"paused"}
    assert "The execution_timeout of" in capfd.readouterr().out


@BOTH_MODES
def test_an_outage_longer_than_max_outage_leaves_the_agent_task_running(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, deferrable: bool
) -> None:
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "times": 50, "status": 502}])
    run = run_dag(
        f"""
        ShinzoTaskOperator(
            task_id="agent", message={LONG_SCRIPT!r}, deferrable={deferrable}, max_outage=0.3,
            poll_interval=0.1,
        )
        """
    )
    assert run.task_state("agent") == "failed"
    assert left(agent_task_sandbox) == ["running"]
    printed = capfd.readouterr().out
    assert "no usable response within the max_outage of 0.3 s. It was left running, and no try is " in printed
    assert "no try is left to attach to it" in printed


@pytest.mark.parametrize("event", [{"chosen_options": ["Send"], "params_input": {}}, "done"])
def test_an_event_that_is_none_of_ours_loses_nothing(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, event: Any
) -> None:
    run = run_dag(
        f"""
        from tests.strange_trigger import StrangeTrigger

        class GetsAStrangeEvent(ShinzoTaskOperator):
            def defer(self, *, trigger, **kwargs):
                super().defer(trigger=StrangeTrigger({event!r}), **kwargs)

        GetsAStrangeEvent(task_id="agent", message={STILL_RUNNING!r}, deferrable=True)
        """
    )
    assert run.state == "success"
    assert run.xcom("agent")["result"] == {"answer": 42}
    assert left(agent_task_sandbox) == ["completed"]
    assert "something other than its trigger's event" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "is_open"),
    [
        ({"message": QUICK}, False),
        ({"message": QUICK, "deferrable": True}, False),
        ({"message": LONG_SCRIPT, "wait_for_completion": False}, True),
        ({"message": ASKS, "on_awaiting_input": "return"}, True),
        ({"message": LONG_SCRIPT, "timeout": 0.1, "on_timeout": "leave"}, True),
    ],
)
def test_the_record_is_closed_once_airflow_has_the_result(
    run_dag: Any, arguments: dict[str, Any], is_open: bool
) -> None:
    run = run_dag(f"ShinzoTaskOperator(task_id='agent', **{arguments!r})")
    scope = TaskScope(run.dag_run.dag_id, run.dag_run.run_id, "agent")
    stored = get_state_backend().get(scope, RECORD_KEY)
    assert stored
    assert json.loads(stored)["is_closed"] is not is_open


class Resumed:
    """An operator that Airflow resumes without an event, with what the state store remembers."""

    def __init__(self, script: str, *, seconds_ago: float, **arguments: Any) -> None:
        self.operator = ShinzoTaskOperator(
            task_id="agent", message=script, deferrable=True, do_xcom_push=False, **arguments
        )
        task = self.operator.hook.start_task(message=script)
        started = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
        self.store = {
            RECORD_KEY: {
                "idempotency_key": "k",
                "try_number": 1,
                "max_tries": 0,
                "on_kill_policy": "stop",
                "task_id": task.task_id,
                "agent_id": task.agent_id,
                "submitted_at": started.timestamp(),
            }
        }
        ti = SimpleNamespace(
            **{"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": -1, "try_number": 1},
            **{"max_tries": 0, "start_date": started, "task": self.operator, "xcom_push": None},
            **{"id": "id", "log_url": ""},
        )
        store = SimpleNamespace(
            get=self.store.get,
            set=self.store.__setitem__,
            delete=lambda key: self.store.pop(key, None),
        )
        self.context: Any = {"ti": ti, "task_state_store": store}

    def resume(self, error: str) -> Any:
        return self.operator.resume_execution("__fail__", {"error": error}, self.context)


def test_what_completed_while_nobody_could_see_it_is_delivered_at_the_timeout(
    agent_task_sandbox: Any, airflow_home: Any
) -> None:
    script = '#sandbox {"steps": 1, "step_seconds": 0, "result": "done"}'
    resumed = Resumed(script, seconds_ago=60, timeout=30)
    far = {"status": 503, "headers": {"Retry-After": "600"}}
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", **far}])
    assert resumed.resume(TIMED_OUT)["result"] == "done"
    assert RECORD_KEY in resumed.store


def test_what_is_left_running_on_purpose_is_left_by_everybody(
    agent_task_sandbox: Any, airflow_home: Any
) -> None:
    resumed = Resumed(LONG_SCRIPT, seconds_ago=60, timeout=30, on_timeout="leave")
    with pytest.raises(AgentTaskTimeoutError, match="It was left running"):
        resumed.resume(TIMED_OUT)
    assert resumed.store[RECORD_KEY]["on_kill_policy"] == "leave"
    assert left(agent_task_sandbox) == ["running"]


@pytest.mark.parametrize(
    ("refused", "is_closed"),
    [(None, True), (comms.SucceedTask, False), (comms.GetTaskStates, True), ("nothing is sent", False)],
    ids=str,
)
def test_the_record_stays_open_until_airflow_has_recorded_the_success(
    agent_task_sandbox: Any, airflow_home: Any, mocker: MockerFixture, refused: Any, is_closed: bool
) -> None:
    channel = Channel(refused)
    mocker.patch.object(task_runner, "SUPERVISOR_COMMS", channel, create=True)
    resumed = Resumed(QUICK.replace("0.05", "0"), seconds_ago=60)
    resumed.resume(FAILED)
    messages = [
        comms.GetTaskStates(dag_id="dag"),
        comms.SucceedTask(end_date=datetime.now(timezone.utc), task_outlets=[], outlet_events=[]),
    ]
    for message in messages if refused != "nothing is sent" else ():
        with suppress(AirflowRuntimeError):
            task_runner.SUPERVISOR_COMMS.send(msg=message)
    resumed.operator.close_agent_task(resumed.context)
    assert resumed.store[RECORD_KEY].get("is_closed", False) is is_closed


class Channel:
    """A supervisor that refuses one kind of message."""

    def __init__(self, refused: Any) -> None:
        self._refused = refused

    def send(self, msg: Any) -> None:
        if type(msg) is self._refused:
            raise AirflowRuntimeError(comms.ErrorResponse(error=comms.ErrorType.API_SERVER_ERROR))


TIMED_OUT, FAILED = "Trigger timeout", "Trigger failure"


def test_the_backstop_stops_the_agent_task(agent_task_sandbox: Any, airflow_home: Any) -> None:
    resumed = Resumed(LONG_SCRIPT, seconds_ago=60, timeout=30)
    with pytest.raises(
        AgentTaskTimeoutError, match=r"did not end within its timeout of 30 s\. It was stopped"
    ):
        resumed.resume(TIMED_OUT)
    assert left(agent_task_sandbox) == ["cancelled"]
    assert resumed.store[RECORD_KEY]["is_closed"]


def test_the_backstop_of_an_execution_timeout_names_it(agent_task_sandbox: Any, airflow_home: Any) -> None:
    limits = {"timeout": 300, "execution_timeout": timedelta(seconds=20)}
    resumed = Resumed(LONG_SCRIPT, seconds_ago=60, **limits)
    with pytest.raises(AgentTaskTimeoutError, match="its execution_timeout of 20 s"):
        resumed.resume(TIMED_OUT)
    assert left(agent_task_sandbox) == ["cancelled"]


@pytest.mark.parametrize("error", [TIMED_OUT, FAILED])
def test_what_completed_before_an_odd_resumption_is_delivered(
    agent_task_sandbox: Any, airflow_home: Any, error: str
) -> None:
    script = '#sandbox {"steps": 1, "step_seconds": 0, "result": "done"}'
    resumed = Resumed(script, seconds_ago=60, timeout=30)
    assert resumed.resume(error)["result"] == "done"


def test_a_trigger_that_failed_fails_the_try_and_leaves_the_agent_task(
    agent_task_sandbox: Any, airflow_home: Any
) -> None:
    resumed = Resumed(LONG_SCRIPT, seconds_ago=60)
    with pytest.raises(AgentTaskError, match="The trigger failed") as failure:
        resumed.resume(FAILED)
    assert not failure.value.is_final
    assert left(agent_task_sandbox) == ["running"]
    assert RECORD_KEY in resumed.store


def test_without_a_record_an_odd_resumption_fails_with_its_reason(
    agent_task_sandbox: Any, airflow_home: Any
) -> None:
    resumed = Resumed(LONG_SCRIPT, seconds_ago=60)
    resumed.store.clear()
    with pytest.raises(AgentTaskError, match=r"The trigger failed \(Trigger failure\)"):
        resumed.resume(FAILED)


@pytest.mark.parametrize(("timeout", "limits"), [(100, (65, 70)), (None, None)])
def test_a_deferral_with_a_timeout_has_a_backstop_a_little_later(
    agent_task_sandbox: Any, airflow_home: Any, timeout: float | None, limits: Any
) -> None:
    resumed = Resumed(LONG_SCRIPT, seconds_ago=60, timeout=timeout)
    with pytest.raises(TaskDeferred) as deferred:
        resumed.operator.execute_complete(resumed.context, event="an answer to somebody else")
    trigger, backstop = deferred.value.trigger, deferred.value.timeout
    if limits is None:
        assert (trigger.deadline, backstop) == (None, None)
    else:
        assert trigger.deadline == resumed.store[RECORD_KEY]["submitted_at"] + 100
        assert limits[0] < backstop.total_seconds() <= limits[1]


def test_a_resumption_with_a_refused_key_is_final(
    agent_task_sandbox: Any, airflow_home: Any, monkeypatch: Any
) -> None:
    resumed = Resumed(LONG_SCRIPT, seconds_ago=60)
    connection = {"conn_type": "shinzo", "host": agent_task_sandbox.url, "password": "sk_wrong"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_SHINZO_DEFAULT", json.dumps({**connection, "extra": {"agent_id": "agt_1"}})
    )
    del resumed.operator.hook
    with pytest.raises(AirflowFailException, match="401"):
        resumed.resume(FAILED)


def test_a_task_with_a_timeout_is_delivered_although_its_record_is_gone(
    run_dag: Any, agent_task_sandbox: Any
) -> None:
    run = run_dag(
        f"""
        class LosesItsRecord(ShinzoTaskOperator):
            def execute_complete(self, context, **kwargs):
                context["task_state_store"].delete({RECORD_KEY!r})
                return super().execute_complete(context, **kwargs)

        LosesItsRecord(task_id="agent", message={STILL_RUNNING!r}, deferrable=True, timeout=60)
        """
    )
    assert run.state == "success"
    assert run.xcom("agent")["result"] == {"answer": 42}
