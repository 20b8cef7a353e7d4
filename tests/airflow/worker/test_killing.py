"""What killing a worker does with the agent task, by the state that Airflow returns."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import nullcontext
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, TaskDeferred
from airflow.sdk.execution_time import comms, task_runner
from pytest_mock import MockerFixture

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskCancelledError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.commands import Sleep
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.worker import kill
from airflow_agent_tasks.worker.driver import Callbacks, Driver
from airflow_agent_tasks.worker.kill import WorkerKill
from tests.airflow.conftest import LONG_SCRIPT
from tests.airflow.started_tasks import ENDED, WAITED_FOR, conn_id_of
from tests.task_settings import build_settings


class TaskInstance(SimpleNamespace):
    """A task instance in one state."""

    dag_id, run_id, task_id = "dag", "run", "agent"

    def get_task_states(self, **query: Any) -> dict[str, dict[str, Any]]:
        assert (query["dag_id"], query["run_ids"], query["task_ids"]) == ("dag", ["run"], ["agent"])
        label = "agent" if self.map_index < 0 else f"agent_{self.map_index}"
        return {"run": {"other": "failed", label: self.state() if callable(self.state) else self.state}}


def task_instance(state: Any, *, has_next_try: bool = True, map_index: int = -1) -> TaskInstance:
    max_tries = 1 if has_next_try else 0
    return TaskInstance(
        state=state,
        try_number=1,
        max_tries=max_tries,
        map_index=map_index,
        id="id",
        start_date=datetime.now(timezone.utc),
        log_url="",
        xcom_push=lambda **pushed: None,
    )


def build_driver(
    started: StartedTask, ti: TaskInstance, store: dict[str, Any] | None = None, **settings: Any
) -> Driver:
    conn_id = conn_id_of(started)
    callbacks = Callbacks(lambda: find_hook(conn_id), lambda **_: None, None, (), ())
    rows = {} if store is None else store
    context: Any = {"ti": ti, "task_state_store": SimpleNamespace(get=rows.get, set=rows.__setitem__)}
    log = logging.getLogger("worker")
    driver = Driver(build_settings({}, **{"pushes_xcoms": False, **settings}), callbacks, context, log)
    driver.perform(driver.execution.adopt(started))
    return driver


def kill_worker(started: StartedTask, ti: TaskInstance, pushed: list[str] | None = None) -> bool:
    conn_id = conn_id_of(started)
    statuses = [] if pushed is None else pushed
    return WorkerKill(
        lambda: find_hook(conn_id),
        started,
        ti,
        logging.getLogger("kill"),
        lambda task: statuses.append(task.status.value),
        has_next_try=ti.try_number <= ti.max_tries,
    ).run()


@pytest.mark.parametrize("state", [*ENDED, "restarting"])
def test_a_worker_stops_what_a_user_ended_or_cleared(
    started: StartedTask, is_stopped: Any, state: str
) -> None:
    pushed: list[str] = []
    assert kill_worker(started, task_instance(state), pushed)
    assert is_stopped()
    assert pushed == ["cancelled" if started.agent_id else "paused"]


def test_a_stop_that_changes_nothing_is_not_believed(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, caplog: Any
) -> None:
    accept = {"method": "POST", "path": "/(cancel|pause)$", "status": 200, "body": '{"status": "cancelled"}'}
    agent_task_sandbox.faults([accept])
    pushed: list[str] = []
    assert not kill_worker(started, task_instance("failed"), pushed)
    assert not is_stopped()
    assert pushed in (["queued"], ["running"])
    assert "its agent task still runs after the stop" in caplog.text


@pytest.mark.parametrize("state", [*(state for state in WAITED_FOR if state != "restarting"), "running"])
def test_a_worker_leaves_what_the_next_try_attaches_to(
    started: StartedTask, is_stopped: Any, state: str | None, caplog: Any
) -> None:
    assert not kill_worker(started, task_instance(state))
    assert not is_stopped()
    assert "keeps running: the next try attaches to it, or stops it" in caplog.text


@pytest.mark.parametrize("state", ["running", None])
def test_a_worker_stops_what_no_next_try_will_find(
    started: StartedTask, is_stopped: Any, state: str | None
) -> None:
    assert kill_worker(started, task_instance(state, has_next_try=False))
    assert is_stopped()


def test_a_worker_finds_its_own_state_among_mapped_ones(started: StartedTask, is_stopped: Any) -> None:
    assert kill_worker(started, task_instance("failed", map_index=3))
    assert is_stopped()


def test_a_worker_that_cannot_ask_leaves_the_agent_task_to_the_next_try(
    started: StartedTask, is_stopped: Any, mocker: MockerFixture, caplog: Any
) -> None:
    mocker.patch.object(kill, "SECONDS_TO_READ_STATE", 0.1)
    never = threading.Event()
    assert not kill_worker(started, task_instance(never.wait))
    never.set()
    assert not is_stopped()
    assert "in a state that Airflow did not report" in caplog.text


def test_a_worker_is_done_before_airflow_sends_the_second_signal(
    started: StartedTask, agent_task_sandbox: Any
) -> None:
    never = threading.Event()
    agent_task_sandbox.faults([{"method": "POST", "path": ".*", "delay_seconds": 8}])
    begun = time.monotonic()
    assert not kill_worker(started, task_instance(never.wait, has_next_try=False))
    assert time.monotonic() - begun < 5
    never.set()


def test_a_stop_that_fails_is_logged(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, caplog: Any
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "(pause|cancel)$", "status": 503}])
    assert not kill_worker(started, task_instance("failed"))
    assert not is_stopped()
    assert "may still be running" in caplog.text


@pytest.mark.parametrize(
    ("operator_class", "field", "left"),
    [(LightconeTaskOperator, "instruction", "paused"), (ShinzoTaskOperator, "message", "cancelled")],
)
def test_a_kill_during_the_start_stops_what_was_started(
    agent_task_sandbox: Any, airflow_home: Any, operator_class: Any, field: str, left: str
) -> None:
    operator = operator_class(task_id="agent", do_xcom_push=False, **{field: LONG_SCRIPT})
    store = SimpleNamespace(get=lambda key: None, set=lambda key, value: None)
    ti = task_instance("failed")
    ti.task = operator
    agent_task_sandbox.faults([{"method": "POST", "path": ".*", "delay_seconds": 0.3}])

    def kill_once_it_is_on_the_way() -> None:
        while not operator._driver:
            time.sleep(0.01)
        operator.on_kill()

    killer = threading.Thread(target=kill_once_it_is_on_the_way)
    killer.start()
    with pytest.raises(AgentTaskCancelledError):
        operator.execute({"ti": ti, "task_state_store": store})
    killer.join()
    assert [task["status"] for task in agent_task_sandbox.tasks()] == [left]


def test_a_kill_with_the_policy_leave_stops_nothing(
    started: StartedTask, is_stopped: Any, caplog: Any
) -> None:
    build_driver(started, task_instance("failed"), on_kill_policy="leave").on_kill()
    assert not is_stopped()


def test_a_kill_without_a_state_from_airflow_is_decided_later(
    started: StartedTask, is_stopped: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(kill, "SECONDS_TO_READ_STATE", 0.1)
    is_free = threading.Event()

    def tell() -> str:
        is_free.wait()
        return "failed"

    driver = build_driver(started, task_instance(tell), poll_interval=0.1)
    driver.on_kill()
    assert not is_stopped()
    is_free.set()
    with pytest.raises(AgentTaskCancelledError, match="this task was killed"):
        driver.perform(iter(Sleep(0.1)))
    assert is_stopped()


def test_the_next_try_does_not_wait_for_what_was_stopped_at_a_clear(
    started: StartedTask, is_stopped: Any
) -> None:
    store = {RECORD_KEY: Submission("key", try_number=1, max_tries=1).with_task(started).to_json()}
    driver = build_driver(started, task_instance("restarting"), store)
    driver.on_kill()
    assert is_stopped()
    with pytest.raises(AgentTaskCancelledError, match="this task was killed"):
        driver.perform(iter(Sleep(0.1)))
    assert store[RECORD_KEY]["is_stopping"] is True


@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "accepted"])
@pytest.mark.parametrize("state", [*ENDED, "running", None, "an error"])
def test_a_deferral_that_airflow_refuses_stops_the_agent_task_of_a_task_that_has_ended(
    agent_task_sandbox: Any, airflow_home: Any, mocker: MockerFixture, state: str | None, is_refused: bool
) -> None:
    refusal = AirflowRuntimeError(comms.ErrorResponse(error=comms.ErrorType.API_SERVER_ERROR))
    channel = SimpleNamespace(send=mocker.Mock(side_effect=refusal if is_refused else None))
    mocker.patch.object(task_runner, "SUPERVISOR_COMMS", channel, create=True)

    def tell() -> str | None:
        if state == "an error":
            raise RuntimeError
        return state

    operator = ShinzoTaskOperator(task_id="agent", message=LONG_SCRIPT, deferrable=True, do_xcom_push=False)
    ti = task_instance(tell)
    ti.task = operator
    store = SimpleNamespace(get=lambda key: None, set=lambda key, value: None, delete=lambda key: None)
    with pytest.raises(TaskDeferred):
        operator.execute({"ti": ti, "task_state_store": store})
    message = comms.DeferTask(classpath="trigger", next_method="execute_complete", trigger_kwargs={})
    with pytest.raises(AirflowRuntimeError) if is_refused else nullcontext():
        task_runner.SUPERVISOR_COMMS.send(msg=message)
    expected = "cancelled" if is_refused and state in ENDED else "running"
    assert [task["status"] for task in agent_task_sandbox.tasks()] == [expected]
