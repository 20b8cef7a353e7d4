"""What killing a trigger does with the agent task, by the state that Airflow returns."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseXCom
from airflow.sdk.execution_time import task_runner

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.polling import kill
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger
from tests.airflow.conftest import LONG_SCRIPT
from tests.airflow.started_tasks import ENDED, WAITED_FOR, conn_id_of

TASK_INSTANCE = SimpleNamespace(dag_id="dag", run_id="run", task_id="agent", map_index=-1)


@pytest.fixture
def airflow_returns(mocker: Any) -> Callable[[Any], Any]:
    """Return a function that sets the task instance's state; only a triggerer has a channel to Airflow."""

    def set_state(state: Any) -> Any:
        async def asend(message: Any) -> Any:
            query = (message.dag_id, message.run_ids, message.task_ids)
            assert query == ("dag", ["run"], ["agent"])
            if isinstance(state, Exception):
                raise state
            return SimpleNamespace(task_states={"run": {"other": "failed", "agent": state}})

        channel = SimpleNamespace(asend=asend)
        return mocker.patch.object(task_runner, "SUPERVISOR_COMMS", channel, create=True)

    return set_state


def build_trigger(started: StartedTask, **arguments: Any) -> AgentTaskTrigger:
    conn_id = conn_id_of(started)
    given = {"on_kill_policy": "stop", **arguments}
    trigger = AgentTaskTrigger(conn_id=conn_id, **started.to_kwargs(), **given)
    trigger.task_instance = TASK_INSTANCE
    return trigger


def kill_trigger(started: StartedTask, **arguments: Any) -> None:
    asyncio.run(build_trigger(started, **arguments).on_kill())


@pytest.mark.parametrize("state", ENDED)
def test_a_trigger_stops_what_a_user_ended(
    started: StartedTask, is_stopped: Any, state: str, airflow_returns: Any, capfd: Any
) -> None:
    airflow_returns(state)
    kill_trigger(started)
    assert is_stopped()
    fate = "cancelled" if started.agent_id else "paused"
    log = capfd.readouterr().out
    assert f"marked {state}, and its agent task {started.agent_task_id} was stopped (now {fate})." in log


@pytest.mark.parametrize("noted", [True, "queued", "running"])
def test_the_end_of_what_a_trigger_stops_is_in_xcom(
    started: StartedTask, noted: str | bool, airflow_returns: Any, mocker: Any
) -> None:
    airflow_returns("failed")
    aset = mocker.patch.object(BaseXCom, "aset")
    kill_trigger(started, notes_progress=noted)
    pushed = dict(call.args for call in aset.call_args_list)
    assert pushed["status"] == ("cancelled" if started.agent_id else "paused")


def test_a_stop_that_changes_nothing_is_not_believed(
    started: StartedTask, agent_task_sandbox: Any, airflow_returns: Any, mocker: Any, capfd: Any
) -> None:
    accept = {"method": "POST", "path": "/(cancel|pause)$", "status": 200, "body": '{"status": "cancelled"}'}
    agent_task_sandbox.faults([accept])
    airflow_returns("failed")
    aset = mocker.patch.object(BaseXCom, "aset")
    kill_trigger(started, notes_progress=True)
    assert "cancelled" not in [call.args[1] for call in aset.call_args_list]
    log = capfd.readouterr().out
    assert "still runs after the stop" in log
    assert "was stopped" not in log


@pytest.mark.parametrize("state", [*WAITED_FOR, "running"])
def test_a_trigger_leaves_what_another_one_waits_for(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, state: str | None, airflow_returns: Any
) -> None:
    airflow_returns(state)
    kill_trigger(started)
    assert not is_stopped()
    assert len(agent_task_sandbox.requests()) == 1  # the start


@pytest.mark.parametrize(
    ("status", "is_over"),
    [("completed", True), ("failed", True), ("running", False), (None, False), (OSError("lost"), False)],
)
def test_a_trigger_whose_task_a_callback_woke_asks_airflow_before_the_service(
    started: StartedTask,
    agent_task_sandbox: Any,
    airflow_returns: Any,
    mocker: Any,
    status: Any,
    is_over: bool,
) -> None:
    airflow_returns("success")
    reads = mocker.patch.object(BaseXCom, "aget_value", side_effect=[status])
    mocker.patch.object(BaseXCom, "aset")
    kill_trigger(started, notes_progress=True, is_called_back=True)
    assert (len(agent_task_sandbox.requests()) == 1) is is_over  # the start
    reads.assert_called_once_with(ti_key=TASK_INSTANCE, key="status")


def test_a_trigger_that_gets_no_state_from_airflow_leaves_the_agent_task(
    started: StartedTask, is_stopped: Any, airflow_returns: Any
) -> None:
    airflow_returns(RuntimeError("no answer"))
    kill_trigger(started)
    assert not is_stopped()


def test_a_trigger_with_the_policy_leave_stops_nothing(
    started: StartedTask, is_stopped: Any, airflow_returns: Any
) -> None:
    airflow_returns("failed")
    kill_trigger(started, on_kill_policy="leave")
    assert not is_stopped()


def test_a_trigger_tries_to_stop_what_it_cannot_check(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, airflow_returns: Any
) -> None:
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "times": 9, "status": 503}])
    airflow_returns("failed")
    kill_trigger(started)
    assert is_stopped()


def test_a_trigger_does_not_stop_what_has_ended(
    agent_task_sandbox: Any, airflow_home: Any, airflow_returns: Any
) -> None:
    task = find_hook("lightcone_default").start_task(instruction='#sandbox {"steps": 1, "step_seconds": 0}')
    airflow_returns("success")
    kill_trigger(StartedTask(task.task_id, None, time.time()))
    assert [request["method"] for request in agent_task_sandbox.requests()] == ["POST", "GET"]


@pytest.mark.parametrize(("state", "left"), [("success", "awaiting_input"), ("failed", "cancelled")])
def test_a_trigger_leaves_the_question_that_a_success_returned(
    agent_task_sandbox: Any, airflow_home: Any, airflow_returns: Any, state: str, left: str
) -> None:
    hook = find_hook("shinzo_default")
    task = hook.start_task(message='#sandbox {"steps": 2, "step_seconds": 0, "ask": ["Which?"]}')
    assert hook.get_task(task.task_id).question == "Which?"
    airflow_returns(state)
    kill_trigger(StartedTask(task.task_id, task.agent_id, time.time()))
    assert [task["status"] for task in agent_task_sandbox.tasks()] == [left]


def test_the_stop_continues_when_airflow_cancels_on_kill(
    started: StartedTask, agent_task_sandbox: Any, is_stopped: Any, airflow_returns: Any
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "(pause|cancel)$", "delay_seconds": 0.3}])
    airflow_returns("failed")

    async def kill_and_cancel() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(build_trigger(started).on_kill(), 0.1)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others), 5)

    asyncio.run(kill_and_cancel())
    assert is_stopped()


def test_many_tasks_that_are_ended_at_once_are_all_stopped_however_slow_airflow_is(
    agent_task_sandbox: Any, airflow_home: Any, mocker: Any
) -> None:
    count, seconds_for_one = 40, 0.04
    mocker.patch.object(kill, "STATE_TIMEOUT", count * seconds_for_one / 2)
    hook = find_hook("shinzo_default")
    tasks = [hook.start_task(message=LONG_SCRIPT) for _ in range(count)]

    class OneThread:
        """The one supervisor thread of a triggerer."""

        def __init__(self) -> None:
            self.is_busy = asyncio.Lock()

        async def asend(self, message: Any) -> Any:
            async with self.is_busy:
                await asyncio.sleep(seconds_for_one)
            return SimpleNamespace(task_states={"run": {"agent": "failed"}})

    async def kill_all() -> None:
        mocker.patch.object(task_runner, "SUPERVISOR_COMMS", OneThread(), create=True)
        started = [StartedTask(task.task_id, task.agent_id, time.time()) for task in tasks]
        log = logging.getLogger()
        await asyncio.gather(
            *[kill.stop_if_orphaned("shinzo_default", one, TASK_INSTANCE, None, log) for one in started]
        )

    asyncio.run(kill_all())
    assert {task["status"] for task in agent_task_sandbox.tasks()} == {"cancelled"}


def test_a_trigger_that_has_fired_stops_nothing(
    agent_task_sandbox: Any, airflow_home: Any, airflow_returns: Any
) -> None:
    hook = find_hook("shinzo_default")
    task = hook.start_task(message='#sandbox {"steps": 2, "step_seconds": 0, "ask": ["Which?"]}')
    trigger = build_trigger(StartedTask(task.task_id, task.agent_id, time.time()), poll_interval=0.05)
    trigger.task_instance = None

    async def fire() -> list[Any]:
        return [event async for event in trigger.run()]

    assert len(asyncio.run(fire())) == 1
    airflow_returns("failed")
    trigger.task_instance = TASK_INSTANCE
    asyncio.run(trigger.on_kill())
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["awaiting_input"]
