"""Runs DAGs through Airflow's own ``dag.test()``."""

from __future__ import annotations

import importlib.util
import itertools
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.airflow_api import AirflowApi

PREAMBLE = """
from datetime import datetime, timedelta
from airflow.sdk import DAG, chain, dag, task
from airflow_agent_tasks.operators.agent_task import *
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor
"""
LONG_SCRIPT = '#sandbox {"steps": 100, "step_seconds": 10}'
_numbers = itertools.count()


@dataclass
class FinishedRun:
    """What a DAG run left behind."""

    dag_run: Any

    @property
    def state(self) -> str:
        return str(self.dag_run.state)

    def task_state(self, task_id: str, map_index: int = -1) -> str:
        return str(self._task_instance(task_id, map_index).state)

    def tries(self, task_id: str) -> int:
        return int(self._task_instance(task_id, -1).try_number)

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(
                run_id=self.dag_run.run_id,
                dag_ids=self.dag_run.dag_id,
                task_ids=task_id,
                key=key,
                map_indexes=map_index,
            )
            row = session.scalars(query).first()
            return None if row is None else XComModel.deserialize_value(row)

    def _task_instance(self, task_id: str, map_index: int) -> Any:
        found = self.dag_run.get_task_instance(task_id, map_index=map_index)
        assert found is not None, f"no task instance {task_id}[{map_index}]"
        return found


#: The secrets of callbacks, the newest first, as the API server knows them.
CALLBACK_SECRETS = "a-new-secret-of-the-tests,an-old-secret-of-the-tests"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the adaptive waits 20 times shorter: what is tested here is what happens, not when."""
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__MIN_POLL_INTERVAL", "0.1")


@pytest.fixture(autouse=True)
def nothing_is_stopped_in_the_next_test() -> Iterator[None]:
    """Wait for the threads that stop agent tasks: their requests would be counted in the next test."""
    yield
    finish_stops()


def finish_stops() -> None:
    """Wait until the plugin has stopped what it is about to stop."""
    stopping = sys.modules.get("airflow_agent_tasks.plugin.background_calls")
    while threads := [one for one in threading.enumerate() if stopping and one.name == stopping.THREAD_NAME]:
        with suppress(RuntimeError):  # it has not started yet
            threads[0].join(timeout=30)
        assert not threads[0].is_alive(), "an agent task is still about to be stopped"


@pytest.fixture(scope="session")
def api_server(airflow_home: Path) -> Iterator[str]:
    """Airflow's API server, on the database of ``dag.test()``, with this package's plugin in it."""
    # Imported here: Airflow's home must be set before.
    from airflow_agent_tasks.plugin import callback_secrets

    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        patch.setenv("AIRFLOW__API__BASE_URL", address)
        # What a worker signs with; there may be no airflow.cfg yet when Airflow is imported.
        patch.setenv("AIRFLOW__API__SECRET_KEY", "a-key-of-the-tests")
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
        # An answer is delayed by this, and a second more; the test of that has a scheduler.
        patch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
        # The receiver of callbacks reads them once; the tests themselves have no setting.
        with pytest.MonkeyPatch.context() as early:
            early.setenv("AIRFLOW__AGENT_TASKS__CALLBACK_SECRET", CALLBACK_SECRETS)
            callback_secrets.get_secrets.cache_clear()
            callback_secrets.get_secrets()
        with serve_airflow(listening):
            yield address


@contextmanager
def serve_airflow(listening: socket.socket) -> Iterator[None]:
    """Serve Airflow's API, as its configuration and plugins now are, in a thread."""
    import uvicorn
    from airflow.api_fastapi.app import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(apps="core"), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield
    server.should_exit = True
    thread.join(10)


class Person:
    """
    Somebody who answers, over Airflow's REST API, what the tasks of one DAG ask, as long as a test runs.

    :param address: The API server's.
    :param dag_id: The DAG.
    :param answers: What to do with one form after the other: a reply to send, or a call with API and form.
    """

    def __init__(
        self, address: str, dag_id: str, answers: Sequence[str | Callable[[Any, Any], None]]
    ) -> None:
        self._api = AirflowApi(address)
        self._dag_id = dag_id
        self._answers = answers
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._answer_all)
        self.forms: list[dict[str, Any]] = []
        self.failure: BaseException | None = None

    def __enter__(self) -> Person:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self.failure:
            raise self.failure

    def _answer_all(self) -> None:
        try:
            for answer in self._answers:
                if (form := self._wait_for_question()) is None:
                    return
                self.forms.append(form)
                if callable(answer):
                    answer(self._api, form)
                else:
                    self._api.answer(form, answer)
            if form := self._wait_for_question():
                raise AssertionError(f"one question too many: {form['subject']}")
        except BaseException as error:
            self.failure = error
            self._end_run()

    def _wait_for_question(self) -> dict[str, Any] | None:
        while not (found := self._api.list_questions(self._dag_id)):
            if self._is_over.wait(0.1):
                return None
            self._resume_answered()
        return found[0]

    def _resume_answered(self) -> None:
        """Resume a task that dag.test() has parked over an answer that came while it parked it."""
        from airflow.models.hitl import HITLDetail
        from airflow.utils.session import create_session

        with create_session() as session:
            for task_instance in (
                self._find_parked(session).join(HITLDetail).filter(HITLDetail.response_received)
            ):
                task_instance.state = "scheduled"

    def _end_run(self) -> None:
        # Nobody answers any more: dag.test() would wait for ever.
        from airflow.utils.session import create_session

        while not self._is_over.wait(0.2):
            with create_session() as session:
                self._find_parked(session).update({"state": "failed"})

    def _find_parked(self, session: Any) -> Any:
        from airflow.models.taskinstance import TaskInstance

        return session.query(TaskInstance).filter_by(dag_id=self._dag_id, state="awaiting_input")


@pytest.fixture
def run_with_person(run_dag: Any, api_server: str) -> Callable[..., tuple[FinishedRun, list[dict[str, Any]]]]:
    """Return a function that runs a DAG while a person answers; it returns the run and the forms it saw."""

    def run(body: str, answers: Sequence[Any]) -> tuple[FinishedRun, list[dict[str, Any]]]:
        dag_id = f"dag_{next(_numbers)}"
        with Person(api_server, dag_id, answers) as person:
            finished = run_dag(body, dag_id=dag_id)
        return finished, person.forms

    return run


@pytest.fixture
def run_dag(airflow_home: Path, agent_task_sandbox: Any) -> Callable[..., FinishedRun]:
    """Return a function that takes the body of ``with DAG(…)`` and runs it to its end."""

    def run(body: str, dag_id: str | None = None, **dag_test_arguments: Any) -> FinishedRun:
        dag_id = dag_id or f"dag_{next(_numbers)}"
        source = f"{PREAMBLE}\nwith DAG({dag_id!r}, schedule=None) as test_dag:\n{_indent(body)}\n"
        return run_file(airflow_home / "dags" / f"{dag_id}.py", source, **dag_test_arguments)

    return run


def run_file(path: Path, source: str, dag_name: str = "test_dag", **dag_test_arguments: Any) -> FinishedRun:
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return FinishedRun(getattr(module, dag_name).test(**dag_test_arguments))


def _indent(body: str) -> str:
    return textwrap.indent(textwrap.dedent(body), "    ")


@pytest.fixture(params=["lightcone", "shinzo"])
def started(request: Any, agent_task_sandbox: Any, airflow_home: Any) -> Any:
    """The StartedTask of an agent task that runs for long, on either service."""
    from airflow_agent_tasks.agent_task import StartedTask
    from airflow_agent_tasks.hooks.find_hook import find_hook

    hook = find_hook(f"{request.param}_default")
    task = hook.start_task(**{hook.dialect.instruction_field: LONG_SCRIPT})
    return StartedTask(task.task_id, task.agent_id, time.time())


@pytest.fixture
def is_stopped(agent_task_sandbox: Any) -> Callable[[], bool]:
    """Return a function that tells whether the one agent task was stopped."""

    def check() -> bool:
        (task,) = agent_task_sandbox.tasks()
        assert task["status"] in ("running", "paused", "cancelled")
        return task["status"] != "running"

    return check
