"""What the agent made, through Airflow's own object storage: real files, real failures, bounded memory."""

from __future__ import annotations

import json
import logging
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.artifact import Artifact
from airflow_agent_tasks.worker.artifacts import ArtifactStore
from airflow_agent_tasks.worker.xcoms import XComs
from tests.airflow.conftest import FinishedRun

LARGE = {"rows": ["x" * 100] * 900}
FILES = {"files": [{"name": "chart.png", "media_type": "image/png", "bytes": 5_000}]}


@pytest.fixture
def run_agent(run_dag: Any, agent_task_sandbox: Any, tmp_path: Path) -> Any:
    """Return a function that runs one agent of Shinzo with a script and arguments of its operator."""

    def run(script: dict[str, Any], arguments: str = "", **dag_test_arguments: Any) -> FinishedRun:
        agent_task_sandbox.script(**{"step_seconds": 0, **script})
        body = f"ShinzoTaskOperator(task_id='agent', message='Work.', retry_delay=timedelta(0), {arguments})"
        finished: FinishedRun = run_dag(body, **dag_test_arguments)
        return finished

    return run


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_large_result_goes_to_the_path_and_xcom_says_where(
    run_agent: Any, agent_task_sandbox: Any, tmp_path: Path
) -> None:
    run = run_agent({"result": LARGE}, f"artifacts_path='file://{tmp_path}/{{{{ ti.task_id }}}}'")
    assert run.state == "success"
    (task,) = agent_task_sandbox.tasks()
    ((name, data),) = list_files(tmp_path).items()
    assert name == f"agent/shinzo_default/{task['task_id']}/result.json"
    assert json.loads(data) == LARGE
    result = run.xcom("agent")["result"]
    path = f"file://{tmp_path}/{name}"
    reference = {"path": path, "size": len(data), "type": "application/json"}
    assert result == {**reference, "preview": data.decode()[:2_000]}
    assert run.xcom("agent", "artifacts") == [{"name": "result.json", **reference}]


def test_the_files_of_a_result_go_to_the_path_of_airflows_settings(
    run_agent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__ARTIFACTS_PATH", str(tmp_path))
    run = run_agent({"result": {"text": "fine"}, **FILES})
    assert run.state == "success"
    ((name, data),) = list_files(tmp_path).items()
    assert name.endswith("/result-0001-chart.png")
    assert data == b"." * 5_000
    (entry,) = run.xcom("agent", "artifacts")
    assert (entry["size"], entry["type"]) == (5_000, "image/png")
    (file,) = run.xcom("agent")["result"]["files"]
    assert file["base64"] == {"path": entry["path"], "size": 5_000, "type": "image/png"}
    assert "Li4uLi4u" not in capfd.readouterr().out


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])
@pytest.mark.parametrize("script", [{"result": "x" * 70_000}, FILES], ids=["large", "files"])
def test_without_a_path_the_task_fails_says_how_to_set_one_and_the_retry_asks_the_same_agent_task(
    run_agent: Any, agent_task_sandbox: Any, capfd: Any, script: dict[str, Any], deferrable: bool
) -> None:
    run = run_agent(script, f"retries=1, deferrable={deferrable}")
    assert (run.state, run.tries("agent")) == ("failed", 2)
    assert len(agent_task_sandbox.tasks()) == 1
    error = run.xcom("agent", "error")
    assert "AIRFLOW__AGENT_TASKS__ARTIFACTS_PATH" in error
    assert "The result is not lost: the next try takes it, even after a clear." in error
    assert run.xcom("agent") is None
    assert run.xcom("agent", "status") == "completed"
    output = capfd.readouterr().out
    assert "Airflow retries the task: try 2 of 2 is next." in output
    assert "AgentTaskUndeliveredError" in output


def test_the_limit_of_airflows_settings_and_of_the_argument(
    run_agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__MAX_XCOM_BYTES", "100000")
    assert run_agent({"result": "x" * 70_000}).state == "success"
    run = run_agent({"result": "x" * 70_000}, "max_xcom_bytes=69_999")
    assert "70,000 bytes, more than max_xcom_bytes (69,999)" in run.xcom("agent", "error")


def test_without_xcom_a_large_result_fails_nothing(run_agent: Any) -> None:
    assert run_agent({"result": LARGE, **FILES}, "do_xcom_push=False").state == "success"


BROKEN = {
    "a file where a folder should be": "{tmp_path}/file",
    "no such object storage": "nonsense://bucket/x",
    "no provider": "s3://bucket/x",
}


@pytest.mark.parametrize("name", BROKEN)
def test_storage_that_fails_loses_no_result(
    run_agent: Any, agent_task_sandbox: Any, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    path = BROKEN[name].format(tmp_path=tmp_path)
    run = run_agent({"result": LARGE}, f"retries=1, artifacts_path={path!r}")
    assert (run.state, run.tries("agent")) == ("failed", 2)
    assert len(agent_task_sandbox.tasks()) == 1
    assert f"Object storage at {path} failed" in run.xcom("agent", "error")


def test_the_retry_takes_the_result_once_storage_works(
    run_agent: Any, agent_task_sandbox: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = f"{tmp_path}/{{{{ 'file' if ti.try_number == 1 else 'folder' }}}}"
    run = run_agent({"result": LARGE, **FILES}, f"retries=1, artifacts_path={path!r}")
    assert (run.state, run.tries("agent")) == ("success", 2)
    assert len(agent_task_sandbox.tasks()) == 1
    assert len(list_files(tmp_path / "folder")) == 2


@pytest.fixture
def store(airflow_home: Path, tmp_path: Path) -> ArtifactStore:
    xcoms = XComs(SimpleNamespace(), logging.getLogger("artifacts"), is_wanted=False)
    return ArtifactStore(f"{tmp_path}/kept", xcoms)


def test_storage_that_fails_in_the_middle_keeps_the_rest(store: ArtifactStore, tmp_path: Path) -> None:
    def keep(name: str) -> Artifact:
        kept: Artifact = store.perform(cmd.KeepFile("tsk_1", name, "image/png", b"data"))
        return kept

    folder, aside = tmp_path / "kept" / "tsk_1", tmp_path / "aside"
    assert keep("0001-a.png").path == str(folder / "0001-a.png")
    folder.rename(aside)
    folder.touch()
    with pytest.raises(AgentTaskError, match=r"Object storage at .* failed: NotADirectoryError"):
        keep("0002-a.png")
    folder.unlink()
    aside.rename(folder)
    keep("0003-a.png")
    listed = store.perform(cmd.ListArtifacts("tsk_1"))
    assert sorted((one.name, one.size, one.type) for one in listed) == [
        ("0001-a.png", 4, "image/png"),
        ("0003-a.png", 4, "image/png"),
    ]


def test_a_full_disk_leaves_no_half_of_a_file(store: ArtifactStore, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**22, before[1]))
    try:
        with pytest.raises(AgentTaskError, match="File too large"):
            store.perform(cmd.KeepFile("tsk_1", "result.json", "application/json", bytes(2**23)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list_files(tmp_path) == {}


def test_an_agent_task_that_kept_nothing_has_no_folder(store: ArtifactStore, tmp_path: Path) -> None:
    assert store.perform(cmd.ListArtifacts("tsk_1")) == []
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import base64, gc, resource, sys, tracemalloc
from types import SimpleNamespace
from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.artifacts import keep_files, push_artifacts
from airflow_agent_tasks.lifecycle.execution import Execution, TaskTry
from airflow_agent_tasks.worker.artifacts import ArtifactStore
from airflow_agent_tasks.worker.xcoms import XComs
from tests.task_settings import build_settings

MB, pushed, logged = 2**20, {}, []
path = sys.argv[1]
def push(key, value):
    pushed[key] = value

ti = SimpleNamespace(task_id="t", map_index=-1, xcom_pull=lambda **_: None, xcom_push=push)
log = SimpleNamespace(warning=lambda *args: logged.append(args))
xcoms = XComs(ti, log, is_wanted=True)
store = ArtifactStore(path, xcoms)
execution = Execution(
    build_settings({}, artifacts_path=path), TaskTry(("d",), "id", 1, 0, 0.0, "")
)
execution.last_started = StartedTask("tsk_1", None, 1.0)

def perform(command):
    match command:
        case cmd.KeepFile() | cmd.ListArtifacts():
            return store.perform(command)
        case cmd.PushArtifacts():
            return xcoms.perform(command)
        case cmd.ReadClock():
            return 1000.0
        case cmd.Log():
            logged.append(command)

head = base64.b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(1)).decode()
text = head + "A1b+" * (MB // 3)

def keep(event):
    return cmd.perform_all(keep_files(execution, event), perform)

keep({"screenshots": [{"base64": head * 10, "media_type": "image/png"}]})
gc.collect()
tracemalloc.start()
# Several in one event too: the worker must drop each before it decodes the next.
for number in range(20):
    event = keep({"type": "screenshots", "screenshots": [{"base64": text, "media_type": "image/png"}] * 10})
    assert all("path" in shot["base64"] for shot in event["screenshots"]), event
cmd.perform_all(push_artifacts(execution), perform)
print(tracemalloc.get_traced_memory()[1] / len(text), len(pushed["artifacts"]), len(str(pushed)), logged)
"""


def test_two_hundred_screenshots_of_a_megabyte_are_held_one_at_a_time(
    airflow_home: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(MEMORY), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    peak, count, size, logged = done.stdout.split(maxsplit=3)
    # In units of its base64 text, a file is 0.75.
    assert float(peak) < 1.3
    assert (int(count), logged.strip()) == (201, "[]")
    assert int(size) < 201 * (250 + len(str(tmp_path)))
    sizes = sorted(path.stat().st_size for path in (tmp_path / "agents" / "tsk_1").iterdir())
    assert len(sizes) == 201
    assert sizes[1] >= 2**20
    shutil.rmtree(tmp_path)  # pytest would keep 200 MB of each of the last runs
