"""What is imported before a process forks for tasks, where, and that nothing but imports happens then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.jobs.job import Job
from pytest_mock import MockerFixture

from airflow_agent_tasks import preload
from airflow_agent_tasks.plugin import listener, startup
from lab.cluster.celery import CELERY_FOLDER
from tests.airflow.conftest import PREAMBLE

ROOT = Path(__file__).parents[2]
#: What an execution needs of others, each slow to import.
OTHERS = ("requests", "urllib3", "msgspec", "tenacity")
#: What only a triggerer or a server imports; dag.test() is all of them in one process.
ELSEWHERE = {
    "airflow_agent_tasks.airflow_compat.ended_tasks",
    *(
        f"airflow_agent_tasks.client.{name}"
        for name in ("async_client", "large_bodies", "request_deadlines", "triggerer_connections")
    ),
}
#: Does what Airflow does with its command line, and then what Celery does before it forks.
COMMAND = """
import json, sys
from airflow.cli import cli_config
from airflow_agent_tasks.cli.commands import get_agent_tasks_cli_commands
from airflow_agent_tasks.preload import MODULES

sys.argv = json.loads(sys.argv[1])
get_agent_tasks_cli_commands()
has_celery = "celery" in sys.modules
count = lambda: sum(name in sys.modules for name in MODULES)
before = count()
from celery.signals import import_modules
import_modules.send(sender=None)
print(json.dumps([has_celery, before, count() - before]))
"""
#: What is open or running after the imports, in a process of its own.
LEFT = """
import json, os, threading
import airflow.sdk

def list_sockets():
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum("socket:" in os.readlink(link) for link in links if os.path.exists(link))

before = threading.active_count(), list_sockets()
from airflow_agent_tasks.preload import preload
preload()
print(json.dumps([before, (threading.active_count(), list_sockets())]))
"""
#: Runs a DAG file as two executions do, and lists what they still import.
EXECUTIONS = """
import json, runpy, sys
import airflow.models.dagrun
from airflow_agent_tasks.preload import preload

preload()
before = set(sys.modules)
run = runpy.run_path(sys.argv[1])["test_dag"].test()
new = sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in {names!r})
print(json.dumps([str(run.state), new]))
"""


def run(program: str, *arguments: str, **environment: str) -> Any:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        **{"capture_output": True, "text": True, "timeout": 120, "check": False},
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.skipif(not (CELERY_FOLDER / ".installed").exists(), reason="needs Celery: make celery")
@pytest.mark.parametrize(
    ("command", "is_worker"),
    [
        (["celery", "worker", "--concurrency", "4"], True),
        (["celery", "flower"], False),
        (["scheduler"], False),
        ([], False),
    ],
    ids=["worker", "flower", "scheduler", "no command"],
)
def test_a_celery_worker_alone_imports_the_modules_before_it_forks(
    command: list[str], is_worker: bool
) -> None:
    path = os.pathsep.join([str(ROOT), str(CELERY_FOLDER)])
    has_celery, before, imported = run(COMMAND, json.dumps(["airflow", *command]), PYTHONPATH=path)
    assert (has_celery, before) == (is_worker, 0)
    assert imported == (len(preload.MODULES) if is_worker else 0)


def test_without_celery_its_command_says_itself_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celery.signals", None)
    preload.preload_in_celery_worker(["airflow", "celery", "worker"])


def test_a_module_that_cannot_be_imported_is_a_warning_and_the_others_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    (tmp_path / "broken_module_of_a_test.py").write_text("raise SyntaxError('half written')")
    (tmp_path / "sound_module_of_a_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    preload.preload(["broken_module_of_a_test", "missing_module_of_a_test", "sound_module_of_a_test"])
    assert sys.modules.pop("sound_module_of_a_test")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "half written" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to list open sockets")
def test_the_imports_leave_no_thread_and_no_socket_for_the_forked_processes() -> None:
    before, after = run(LEFT)
    assert after == before


def test_two_executions_import_nothing_more_of_this_package(
    airflow_home: Path, agent_task_sandbox: Any
) -> None:
    script = '#sandbox {"steps": 2, "step_seconds": 0.2}'
    path = airflow_home / "dags" / "preloaded.py"
    path.write_text(
        f"{PREAMBLE}\nwith DAG('preloaded', schedule=None) as test_dag:\n"
        f"    ShinzoTaskOperator(task_id='agent', message={script!r}, deferrable=True)\n"
    )
    program = EXECUTIONS.replace("{names!r}", repr(("airflow_agent_tasks", *OTHERS)))
    state, imported = run(program, str(path))
    assert (state, set(imported) - ELSEWHERE) == ("success", set())


@pytest.mark.parametrize(
    ("command", "executor", "is_prepared"),
    [
        ("scheduler", "LocalExecutor", True),
        ("scheduler", "CeleryExecutor,airflow.executors.local_executor.LocalExecutor", True),
        ("scheduler", "CeleryExecutor", False),
        ("triggerer", "LocalExecutor", False),
    ],
)
def test_a_scheduler_imports_the_modules_only_for_an_executor_that_forks_it(
    command: str, executor: str, is_prepared: bool, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.setattr(sys, "argv", ["airflow", command, "--num-runs", "1"])
    prepared = mocker.patch.object(startup, "preload")
    listener.on_starting(Job.__new__(Job))
    assert prepared.called == is_prepared
