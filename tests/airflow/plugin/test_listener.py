"""What the API server and the scheduler do for a task that they end themselves: real rows, a real sandbox."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from pytest_mock import MockerFixture
from sqlalchemy import update

from airflow_agent_tasks.airflow_compat.ended_tasks import EndedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from airflow_agent_tasks.plugin import listener, orphan_stopper
from lab.cluster.processes import wait_until
from tests.airflow.conftest import LONG_SCRIPT, finish_stops

SERVER = """
import threading, time
from airflow_agent_tasks.plugin.background_calls import THREAD_NAME, BackgroundCalls

calls = BackgroundCalls(4)
for _ in range(9):
    calls.start(lambda: time.sleep(600))
assert sum(thread.name == THREAD_NAME for thread in threading.enumerate()) == 4
"""


@pytest.fixture
def leave_one_running(run_dag: Any) -> Callable[..., Any]:
    """Return a function that leaves a running agent task behind, and returns its ended task instance."""

    def leave(**arguments: Any) -> Any:
        given = "".join(f", {name}={value!r}" for name, value in arguments.items())
        run = run_dag(
            f"""
            from airflow_agent_tasks.hooks.shinzo import ShinzoHook

            class Lost(ShinzoHook):
                def get_task(self, *args, **kwargs):
                    raise RuntimeError("this worker is lost")

            class IsLost(ShinzoTaskOperator):
                hook = Lost("shinzo_default")

            IsLost(task_id="agent", message={LONG_SCRIPT!r}, timeout=0.1{given})
            """
        )
        return run._task_instance("agent", -1)

    return leave


def end(task_instance: Any, state: str | None, *, is_committed: bool = True) -> None:
    if is_committed:
        with create_session() as session:
            session.execute(update(TaskInstance).filter_by(id=task_instance.id).values(state=state))
    task_instance.state = TaskInstanceState(state) if state else None
    hooks = {"success": listener.on_task_instance_success, "skipped": listener.on_task_instance_skipped}
    hooks.get(state or "", listener.on_task_instance_failed)(task_instance)
    finish_stops()


def left(sandbox: Any) -> list[str]:
    return [task["status"] for task in sandbox.tasks()]


@pytest.mark.parametrize("state", ["failed", "success", "skipped"])
def test_the_agent_task_of_an_ended_task_is_stopped(
    leave_one_running: Any, agent_task_sandbox: Any, caplog: Any, state: str
) -> None:
    task_instance = leave_one_running()
    (task,) = agent_task_sandbox.tasks()
    assert task["status"] == "running"
    caplog.set_level("INFO", orphan_stopper.__name__)
    end(task_instance, state)
    assert left(agent_task_sandbox) == ["cancelled"]
    assert f"ended as {state}, so agent task {task['task_id']} was stopped (now cancelled)." in caplog.text


def test_an_agent_task_that_has_ended_before_is_left_as_it_is(
    leave_one_running: Any, agent_task_sandbox: Any, caplog: Any
) -> None:
    task_instance = leave_one_running()
    (task,) = agent_task_sandbox.tasks()
    ShinzoHook("shinzo_default").cancel_task(task["task_id"], task["agent_id"])
    caplog.set_level("INFO", orphan_stopper.__name__)
    end(task_instance, "failed")
    assert "its agent task had already ended" in caplog.text
    cancels = [request for request in agent_task_sandbox.requests() if request["path"].endswith("/cancel")]
    assert len(cancels) == 1


@pytest.mark.parametrize("state", ["up_for_retry", "queued", "running", None])
def test_the_agent_task_of_a_task_that_goes_on_is_left(
    leave_one_running: Any, agent_task_sandbox: Any, state: str | None
) -> None:
    end(leave_one_running(), state)
    assert left(agent_task_sandbox) == ["running"]


def test_the_policy_leave_holds_here_too(leave_one_running: Any, agent_task_sandbox: Any) -> None:
    end(leave_one_running(on_kill_policy="leave"), "failed")
    assert left(agent_task_sandbox) == ["running"]


def test_what_was_only_started_runs_on(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(f"ShinzoTaskOperator(task_id='agent', message={LONG_SCRIPT!r}, wait_for_completion=False)")
    end(run._task_instance("agent", -1), "failed")
    assert left(agent_task_sandbox) == ["running"]


def test_another_operators_task_is_none_of_ours(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag("@task\ndef other():\n    return 1\n\nother()")
    end(run._task_instance("other", -1), "failed")
    assert agent_task_sandbox.requests() == []


def test_a_task_instance_of_a_worker_is_left_to_the_worker(mocker: MockerFixture) -> None:
    class RuntimeTaskInstance:
        state = "failed"

    stop = mocker.patch.object(orphan_stopper, "stop_in_background")
    listener.stop_agent_task_of(RuntimeTaskInstance())
    assert stop.call_count == 0


def test_an_end_that_is_never_committed_stops_nothing(
    leave_one_running: Any, agent_task_sandbox: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(orphan_stopper, "SECONDS_TO_COMMIT", 0.3)
    end(leave_one_running(), "success", is_committed=False)
    assert left(agent_task_sandbox) == ["running"]


def test_an_end_before_a_clear_stops_nothing_of_after_it(
    leave_one_running: Any, agent_task_sandbox: Any
) -> None:
    task_instance = leave_one_running()
    task_instance.max_tries -= 1
    end(task_instance, "failed")
    assert left(agent_task_sandbox) == ["running"]


def test_a_task_that_is_marked_after_a_clear_and_before_its_next_try_stops_what_was_to_be_stopped(
    leave_one_running: Any, agent_task_sandbox: Any
) -> None:
    task_instance = leave_one_running()
    task_instance.max_tries += 2
    with create_session() as session:
        row = update(TaskInstance).filter_by(id=task_instance.id)
        session.execute(row.values(max_tries=task_instance.max_tries))
    end(task_instance, "failed")
    assert left(agent_task_sandbox) == ["cancelled"]


def test_a_stop_is_tried_where_the_state_cannot_be_seen(
    leave_one_running: Any, agent_task_sandbox: Any
) -> None:
    task_instance = leave_one_running()
    far = {"status": 503, "headers": {"Retry-After": "600"}}
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", **far}])
    end(task_instance, "failed")
    assert left(agent_task_sandbox) == ["cancelled"]


def test_a_stop_that_fails_is_told(leave_one_running: Any, agent_task_sandbox: Any, caplog: Any) -> None:
    task_instance = leave_one_running()
    agent_task_sandbox.faults([{"method": "POST", "path": "cancel$", "status": 403}])
    end(task_instance, "failed")
    assert "its agent task may still be running" in caplog.text
    assert "sk_sandbox" not in caplog.text


@pytest.mark.parametrize("ended", ["of a silent service", "never committed"])
def test_no_stop_waits_for_what_others_wait_for(
    leave_one_running: Any, agent_task_sandbox: Any, mocker: MockerFixture, ended: str
) -> None:
    task_instance = leave_one_running()
    find_hook, read_record, is_over = orphan_stopper.find_hook, orphan_stopper.read_record, threading.Event()
    others = [replace(EndedTask.from_row(task_instance, "failed"), max_tries=-n) for n in range(-20, -1)]
    silent = replace(read_record(others[0]), conn_id="silent", max_tries=0)

    def find(conn_id: str) -> Any:
        if conn_id == "silent":
            is_over.wait(60)
            raise AgentTaskError("it never answered")
        return find_hook(conn_id)

    mocker.patch.object(orphan_stopper, "find_hook", side_effect=find)
    mocker.patch.object(
        orphan_stopper, "read_record", side_effect=lambda one: silent if one in others else read_record(one)
    )
    is_committed = orphan_stopper.is_committed
    is_silent = ended == "of a silent service"
    mocker.patch.object(
        orphan_stopper,
        "is_committed",
        side_effect=lambda one: is_silent or is_over.is_set() if one in others else is_committed(one),
    )
    mocker.patch.object(orphan_stopper, "SECONDS_TO_COMMIT", 0.0 if is_silent else 60.0)
    for other in others:
        orphan_stopper.stop_in_background(other)
    with create_session() as session:
        session.execute(update(TaskInstance).filter_by(id=task_instance.id).values(state="failed"))
    task_instance.state = TaskInstanceState.FAILED
    listener.on_task_instance_failed(task_instance)
    assert wait_until(lambda: left(agent_task_sandbox) == ["cancelled"], timeout=20)
    is_over.set()


def test_airflow_loads_the_listener() -> None:
    from airflow_agent_tasks.plugin import AgentTasksPlugin

    assert AgentTasksPlugin.listeners == [listener]


class EndedRun:
    def __init__(self, task_instance: Any, state: str) -> None:
        self.dag_id, self.run_id = task_instance.dag_id, task_instance.run_id
        with create_session() as session:
            run = update(DagRun).filter_by(dag_id=self.dag_id, run_id=self.run_id)
            session.execute(run.values(state=state))


@pytest.mark.parametrize("hook", [listener.on_dag_run_failed, listener.on_dag_run_success])
@pytest.mark.parametrize(
    ("state", "left_as"),
    [
        ("skipped", "cancelled"),
        ("removed", "cancelled"),
        ("upstream_failed", "cancelled"),
        ("failed", "running"),
        ("up_for_retry", "running"),
    ],
)
def test_the_agent_tasks_of_tasks_that_ended_unannounced_are_stopped_when_their_run_ends(
    leave_one_running: Any, agent_task_sandbox: Any, hook: Any, state: str, left_as: str
) -> None:
    task_instance = leave_one_running()
    with create_session() as session:
        session.execute(update(TaskInstance).filter_by(id=task_instance.id).values(state=state))
    hook(EndedRun(task_instance, "failed"))
    finish_stops()
    assert left(agent_task_sandbox) == [left_as]


def test_a_run_that_goes_on_after_all_stops_nothing(
    run_dag: Any, agent_task_sandbox: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(orphan_stopper, "SECONDS_TO_COMMIT", 0.3)
    run = run_dag(
        f"ShinzoTaskOperator(task_id='agent', message={LONG_SCRIPT!r}, timeout=0.1, on_timeout='leave')"
    )
    requests = len(agent_task_sandbox.requests())
    listener.on_dag_run_failed(EndedRun(run._task_instance("agent", -1), "running"))
    finish_stops()
    assert len(agent_task_sandbox.requests()) == requests


def test_a_server_ends_at_once_and_without_a_complaint_while_a_service_is_silent() -> None:
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", SERVER]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""
