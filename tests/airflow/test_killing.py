"""What a kill does with the agent task: on a worker and in a triggerer, by the state that Airflow tells."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskCancelledError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.commands import Sleep
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.polling import kill as killing_of_triggers
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger
from airflow_agent_tasks.worker import kill
from airflow_agent_tasks.worker.driver import Callbacks, Driver
from airflow_agent_tasks.worker.kill import WorkerKill
from tests.task_settings import build_settings

LONG = '#sandbox {"steps": 100, "step_seconds": 10}'
ENDED = ["failed", "success", "skipped", "removed"]
WAITED_FOR = ["deferred", "scheduled", "queued", "restarting", "up_for_retry", "awaiting_input", None]


class TaskInstance(SimpleNamespace):
    """A task instance of which Airflow tells one state."""

    dag_id, run_id, task_id = "dag", "run", "agent"

    def get_task_states(self, **query: Any) -> dict[str, dict[str, Any]]:
        assert (query["dag_id"], query["run_ids"], query["task_ids"]) == ("dag", ["run"], ["agent"])
        label = "agent" if self.map_index < 0 else f"agent_{self.map_index}"
        return {"run": {"other": "failed", label: self.state() if callable(self.state) else self.state}}


class Channel:
    """A triggerer's channel to Airflow: outside a triggerer there is none."""

    def __init__(self, task_instance: TaskInstance) -> None:
        self._task_instance = task_instance

    async def asend(self, message: Any) -> Any:
        query = message.model_dump(exclude={"type"})
        return SimpleNamespace(
            task_states=await asyncio.to_thread(self._task_instance.get_task_states, **query)
        )


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


def build_driver(started: StartedTask, ti: TaskInstance, **settings: Any) -> Driver:
    conn_id = "shinzo_default" if started.agent_id else "lightcone_default"
    callbacks = Callbacks(lambda: find_hook(conn_id), lambda **_: None, None, (), ())
    context: Any = {"ti": ti}
    log = logging.getLogger("worker")
    driver = Driver(build_settings({}, **settings), callbacks, context, log, pushes_xcoms=False)
    driver.perform(driver.execution.take(started))
    return driver


@pytest.fixture(params=["lightcone", "shinzo"])
def started(request: Any, agent_task_sandbox: Any, airflow_home: Any) -> StartedTask:
    hook = find_hook(f"{request.param}_default")
    task = hook.start_task(**{hook.dialect.instruction_field: LONG})
    return StartedTask(task.task_id, task.agent_id, time.time())


@pytest.fixture
def is_stopped(agent_task_sandbox: Any) -> Callable[[], bool]:
    def check() -> bool:
        (task,) = agent_task_sandbox.tasks()
        assert task["status"] in ("running", "paused", "cancelled")
        return task["status"] != "running"

    return check


def kill_worker(started: StartedTask, ti: TaskInstance) -> bool:
    conn_id = "shinzo_default" if started.agent_id else "lightcone_default"
    return WorkerKill(lambda: find_hook(conn_id), started, ti, logging.getLogger("kill")).run()


def kill_trigger(started: StartedTask, ti: TaskInstance, monkeypatch: Any, **arguments: Any) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Channel(ti), raising=False)
    conn_id = "shinzo_default" if started.agent_id else "lightcone_default"
    given = {"on_kill_policy": "stop", **arguments}
    trigger = AgentTaskTrigger(conn_id=conn_id, **started.to_kwargs(), **given)
    trigger.task_instance = ti
    asyncio.run(trigger.on_kill())


@pytest.mark.parametrize("state", ENDED)
def test_a_worker_stops_what_somebody_ended(started: StartedTask, is_stopped: Any, state: str) -> None:
    assert kill_worker(started, task_instance(state))
    assert is_stopped()


@pytest.mark.parametrize("state", [*WAITED_FOR, "running"])
def test_a_worker_leaves_what_the_next_try_attaches_to(
    started: StartedTask, is_stopped: Any, state: str | None, caplog: Any
) -> None:
    assert not kill_worker(started, task_instance(state))
    assert not is_stopped()
    assert "is left running, and the next try attaches to it" in caplog.text


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
    started: StartedTask, is_stopped: Any, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr(kill, "SECONDS_TO_READ_STATE", 0.1)
    never = threading.Event()
    assert not kill_worker(started, task_instance(never.wait))
    never.set()
    assert not is_stopped()
    assert "in a state that Airflow does not report" in caplog.text


def test_a_worker_is_done_before_airflow_sends_the_second_signal(
    started: StartedTask, agent_task_sandbox: Any
) -> None:
    never = threading.Event()
    agent_task_sandbox.faults([{"method": "POST", "path": ".*", "delay_seconds": 8}])
    begun = time.monotonic()
    assert not kill_worker(started, task_instance(never.wait, has_next_try=False))
    assert time.monotonic() - begun < 5
    never.set()


def test_a_stop_that_fails_is_told(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, caplog: Any
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "(pause|cancel)$", "status": 503}])
    assert not kill_worker(started, task_instance("failed"))
    assert not is_stopped()
    assert "may still be running" in caplog.text


@pytest.mark.parametrize("state", ENDED)
def test_a_trigger_stops_what_somebody_ended(
    started: StartedTask, is_stopped: Any, state: str, monkeypatch: Any
) -> None:
    kill_trigger(started, task_instance(state), monkeypatch)
    assert is_stopped()


@pytest.mark.parametrize("state", [*WAITED_FOR, "running"])
def test_a_trigger_leaves_what_another_one_waits_for(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, state: str | None, monkeypatch: Any
) -> None:
    kill_trigger(started, task_instance(state), monkeypatch)
    assert not is_stopped()
    assert len(agent_task_sandbox.requests()) == 1  # the start


def test_a_trigger_that_cannot_ask_leaves_the_agent_task(
    started: StartedTask, is_stopped: Any, monkeypatch: Any
) -> None:
    def fail() -> None:
        raise RuntimeError("no answer")

    kill_trigger(started, task_instance(fail), monkeypatch)
    assert not is_stopped()


def test_a_trigger_with_the_policy_leave_stops_nothing(
    started: StartedTask, is_stopped: Any, monkeypatch: Any
) -> None:
    kill_trigger(started, task_instance("failed"), monkeypatch, on_kill_policy="leave")
    assert not is_stopped()


def test_a_trigger_tries_to_stop_what_it_cannot_see(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, monkeypatch: Any
) -> None:
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "times": 9, "status": 503}])
    kill_trigger(started, task_instance("failed"), monkeypatch)
    assert is_stopped()


def test_a_trigger_gives_no_order_to_what_has_ended(
    agent_task_sandbox: Any, airflow_home: Any, monkeypatch: Any
) -> None:
    task = find_hook("lightcone_default").start_task(instruction='#sandbox {"steps": 1, "step_seconds": 0}')
    kill_trigger(StartedTask(task.task_id, None, time.time()), task_instance("success"), monkeypatch)
    assert [request["method"] for request in agent_task_sandbox.requests()] == ["POST", "GET"]


@pytest.mark.parametrize(("state", "left"), [("success", "awaiting_input"), ("failed", "cancelled")])
def test_a_trigger_leaves_the_question_that_a_success_returned(
    agent_task_sandbox: Any, airflow_home: Any, monkeypatch: Any, state: str, left: str
) -> None:
    hook = find_hook("shinzo_default")
    task = hook.start_task(message='#sandbox {"steps": 2, "step_seconds": 0, "ask": ["Which?"]}')
    assert hook.get_task(task.task_id).question == "Which?"
    kill_trigger(StartedTask(task.task_id, task.agent_id, time.time()), task_instance(state), monkeypatch)
    assert [task["status"] for task in agent_task_sandbox.tasks()] == [left]


def test_the_stop_of_a_trigger_goes_on_when_airflow_cancels_its_on_kill(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, monkeypatch: Any
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "(pause|cancel)$", "delay_seconds": 0.3}])
    ti = task_instance("failed")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Channel(ti), raising=False)
    conn_id = "shinzo_default" if started.agent_id else "lightcone_default"
    trigger = AgentTaskTrigger(conn_id=conn_id, **started.to_kwargs(), on_kill_policy="stop")
    trigger.task_instance = ti

    async def kill_twice() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(trigger.on_kill(), 0.1)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others), 5)

    asyncio.run(kill_twice())
    assert is_stopped()


def test_many_that_are_ended_at_once_are_all_stopped_however_slowly_airflow_tells_their_states(
    agent_task_sandbox: Any, airflow_home: Any, monkeypatch: Any
) -> None:
    count, seconds_for_one = 40, 0.04
    monkeypatch.setattr(killing_of_triggers, "SECONDS_TO_READ_STATE", count * seconds_for_one / 2)
    hook = find_hook("shinzo_default")
    tasks = [hook.start_task(message=LONG) for _ in range(count)]

    class OneThread:
        def __init__(self) -> None:
            self.is_busy = asyncio.Lock()

        async def asend(self, message: Any) -> Any:
            async with self.is_busy:
                await asyncio.sleep(seconds_for_one)
            return SimpleNamespace(task_states={"run": {"agent": "failed"}})

    async def kill_all() -> None:
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", OneThread(), raising=False)
        started = [StartedTask(task.task_id, task.agent_id, time.time()) for task in tasks]
        ti, log = task_instance("failed"), logging.getLogger()
        await asyncio.gather(
            *[killing_of_triggers.stop_if_abandoned("shinzo_default", one, ti, log) for one in started]
        )

    asyncio.run(kill_all())
    assert {task["status"] for task in agent_task_sandbox.tasks()} == {"cancelled"}


def test_a_trigger_that_has_fired_is_done(
    agent_task_sandbox: Any, airflow_home: Any, monkeypatch: Any
) -> None:
    hook = find_hook("shinzo_default")
    task = hook.start_task(message='#sandbox {"steps": 2, "step_seconds": 0, "ask": ["Which?"]}')
    ti = task_instance("failed")
    trigger = AgentTaskTrigger(
        conn_id="shinzo_default",
        **StartedTask(task.task_id, task.agent_id, time.time()).to_kwargs(),
        poll_interval=0.05,
        on_kill_policy="stop",
    )

    async def fire() -> list[Any]:
        return [event async for event in trigger.run()]

    assert len(asyncio.run(fire())) == 1
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Channel(ti), raising=False)
    trigger.task_instance = ti
    asyncio.run(trigger.on_kill())
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["awaiting_input"]


@pytest.mark.parametrize(
    ("operator_class", "field", "left"),
    [(LightconeTaskOperator, "instruction", "paused"), (ShinzoTaskOperator, "message", "cancelled")],
)
def test_a_kill_during_the_start_stops_what_was_started(
    agent_task_sandbox: Any, airflow_home: Any, operator_class: Any, field: str, left: str
) -> None:
    operator = operator_class(task_id="agent", do_xcom_push=False, **{field: LONG})
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


def test_a_kill_of_which_airflow_did_not_tell_the_state_is_decided_later(
    started: StartedTask, is_stopped: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(kill, "SECONDS_TO_READ_STATE", 0.1)
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


@pytest.mark.parametrize("state", [*ENDED, "running", None, "an error"])
def test_a_first_execution_ends_with_a_check_whether_it_is_still_wanted(
    agent_task_sandbox: Any, airflow_home: Any, state: str | None
) -> None:
    def tell() -> str | None:
        if state == "an error":
            raise RuntimeError
        return state

    operator = ShinzoTaskOperator(task_id="agent", message=LONG, deferrable=True, do_xcom_push=False)
    ti = task_instance(tell)
    ti.task = operator
    store = SimpleNamespace(get=lambda key: None, set=lambda key, value: None, delete=lambda key: None)
    is_ended = state in ENDED
    with pytest.raises(AgentTaskCancelledError if is_ended else TaskDeferred):
        operator.execute({"ti": ti, "task_state_store": store})
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["cancelled" if is_ended else "running"]
