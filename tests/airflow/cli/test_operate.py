"""``airflow agent-tasks list``, ``show``, ``message``, ``pause``, ``resume``, ``stop`` and ``reconcile``."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import select

from tests.airflow.conftest import finish_stops
from tests.airflow.waiting_rows import STARTS, change_record, put, read, start

LIGHTCONE = STARTS.replace("Shinzo", "Lightcone").replace("message=", "instruction=")


@pytest.fixture
def run(monkeypatch: Any, capsys: Any) -> Callable[..., Any]:
    """Return a function that runs a command in this process, and returns its exit status and its output."""
    from airflow.cli.cli_parser import get_parser

    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")

    def run(*words: str) -> tuple[Any, str]:
        options = get_parser().parse_args(["agent-tasks", *words])
        capsys.readouterr()
        try:
            options.func(options)
        except SystemExit as end:
            return end.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return run


@pytest.fixture(params=[STARTS, LIGHTCONE], ids=["shinzo", "lightcone"])
def row(run_dag: Any, airflow_home: Any, request: Any) -> Any:
    return start(run_dag, request.param)


@pytest.fixture
def shinzo_row(run_dag: Any, airflow_home: Any) -> Any:
    return start(run_dag)


def waits(row: Any, **changes: Any) -> None:
    """Let the record be that of a task that waits for its agent."""
    change_record(row, lambda record: {**record, "on_kill_policy": "stop", **changes})


def list_json(run: Any, *words: str) -> list[Any]:
    status, output = run(*words, "--output", "json")
    assert status in (0, 1)
    return list(json.loads(output))


def test_a_task_is_listed_in_each_format(row: Any, run: Any, agent_task_sandbox: Any) -> None:
    (agent,) = agent_task_sandbox.tasks()
    (listed,) = list_json(run, "list", "--dag-id", row.dag_id)
    assert (listed["agent_task_id"], listed["state"]) == (agent["task_id"], "deferred")
    for output in ("table", "plain", "yaml"):
        status, shown = run("list", "--dag-id", row.dag_id, "--output", output)
        assert status == 0
        assert "agent_task_id" in shown.replace("\n", "")
    assert agent["task_id"] in run("list", "--dag-id", row.dag_id, "--output", "plain")[1]


def test_the_list_is_filtered(shinzo_row: Any, run: Any) -> None:
    of_dag = ("list", "--dag-id", shinzo_row.dag_id)
    assert len(list_json(run, *of_dag, "--active", "--state", "deferred", "--limit", "1")) == 1
    assert list_json(run, *of_dag, "--state", "success") == []
    assert list_json(run, *of_dag, "--agent-state", "completed") == []
    assert len(list_json(run, *of_dag, "--run-id", shinzo_row.run_id, "--task-id", "agent")) == 1
    assert list_json(run, *of_dag, "--text", "nothing") == []
    for wrong in (("--days", "0"), ("--limit", "-1"), ("--agent-state", "nonsense")):
        with pytest.raises(SystemExit):
            run("list", *wrong)


def test_the_service_is_asked_for_one_task(row: Any, run: Any, agent_task_sandbox: Any) -> None:
    (agent,) = agent_task_sandbox.tasks()
    (shown,) = list_json(run, "show", agent["task_id"])
    assert (shown["agent_state"], shown["dag_id"]) == ("running", row.dag_id)
    status, table = run("show", agent["task_id"])
    assert (status, "remote_status" in table) == (0, True)


def test_messages_pauses_and_stops_are_carried_out_and_audited(
    run_dag: Any, run: Any, agent_task_sandbox: Any, monkeypatch: Any
) -> None:
    row = start(run_dag, LIGHTCONE)
    (agent,) = agent_task_sandbox.tasks()
    task_id = agent["task_id"]
    monkeypatch.setattr("sys.stdin", io.StringIO("from standard input"))
    assert run("message", task_id, "-")[0] == 0
    assert [one["body"] for one in agent_task_sandbox.requests() if one["path"].endswith("/messages")] == [
        {"message": "from standard input"}
    ]
    assert run("message", task_id, "hello") == (0, f"Sent the message to agent task {task_id}.\n")
    for action, state in (("pause", "paused"), ("resume", "running"), ("stop", "paused")):
        status, said = run(action, task_id)
        assert (status, task_id in said) == (0, True)
        (agent,) = agent_task_sandbox.tasks()
        assert agent["status"] == state
    finish_stops()
    assert read(row).state == "failed"
    with create_session() as session:
        events = session.scalars(select(Log.event).filter_by(dag_id=row.dag_id).order_by(Log.id)).all()
    done = [event.removeprefix("agent_task.") for event in events if event.startswith("agent_task.")]
    assert done == ["message", "message", "pause", "resume", "stop"]


def test_a_wrong_id_and_a_wrong_wish_are_one_sentence(
    shinzo_row: Any, run: Any, agent_task_sandbox: Any
) -> None:
    status, _ = run("show", "tsk_nonsense")
    assert status.startswith("No Airflow task has a record of agent task 'tsk_nonsense'.")
    (agent,) = agent_task_sandbox.tasks()
    status, _ = run("pause", agent["task_id"])
    assert "Shinzo" in status


def test_a_connection_that_is_gone_is_one_sentence(
    shinzo_row: Any, run: Any, agent_task_sandbox: Any
) -> None:
    change_record(shinzo_row, lambda record: {**record, "conn_id": "deleted"})
    (agent,) = agent_task_sandbox.tasks()
    status, _ = run("stop", agent["task_id"])
    assert "'deleted'" in status
    assert read(shinzo_row).state == "deferred"


# --- reconcile


def reconcile(run: Any, row: Any, *words: str) -> tuple[Any, list[Any]]:
    status, output = run("reconcile", *words, "--output", "json")
    return status, [found for found in json.loads(output) if found["dag_id"] == row.dag_id]


@pytest.mark.parametrize("state", ["failed", "skipped", "success", "removed", "upstream_failed"])
def test_an_abandoned_agent_is_found_and_stopped_only_on_demand(
    row: Any, run: Any, agent_task_sandbox: Any, state: str
) -> None:
    waits(row)
    put(row, state)
    for words in ((), ("--dry-run",), ("--dry-run", "--stop")):
        status, (found,) = reconcile(run, row, *words)
        assert (status, found["finding"]) == (1, "abandoned")
        (agent,) = agent_task_sandbox.tasks()
        assert agent["status"] == "running"
    _, (found,) = reconcile(run, row, "--stop")
    assert found["finding"] == "stopped"
    (agent,) = agent_task_sandbox.tasks()
    assert agent["status"] in ("cancelled", "paused")
    assert read(row).state == state
    assert reconcile(run, row)[1] == []


def test_a_stop_that_the_service_does_not_carry_out_is_no_success(
    row: Any, run: Any, agent_task_sandbox: Any, monkeypatch: Any
) -> None:
    waits(row)
    put(row, "failed")
    monkeypatch.setattr("airflow_agent_tasks.operations.stop.PAUSES_BEFORE_LOOKS", (0.0, 0.0, 0.0))
    headers, body = {"content-type": "application/json"}, json.dumps({"status": "running"})
    ignored = {"method": "POST", "status": 200, "body": body, "headers": headers, "times": 2}
    agent_task_sandbox.faults([ignored])
    status, (found,) = reconcile(run, row, "--stop")
    assert (status, found["finding"]) == (1, "abandoned")
    assert "still runs after the stop" in found["details"]
    (agent,) = agent_task_sandbox.tasks()
    status, said = run("stop", agent["task_id"])
    assert "still runs after the stop" in str(status) + said
    assert reconcile(run, row, "--stop")[1][0]["finding"] == "stopped"


@pytest.mark.parametrize("state", ["failed", "success"])
def test_an_agent_that_may_outlive_its_task_is_told_and_left(
    row: Any, run: Any, agent_task_sandbox: Any, state: str
) -> None:
    put(row, state)
    for words in ((), ("--stop",)):
        _, (found,) = reconcile(run, row, *words)
        assert found["finding"] == "detached"
        assert "stop tsk_" in found["remedy"]
    (agent,) = agent_task_sandbox.tasks()
    assert agent["status"] == "running"


@pytest.mark.parametrize("state", ["running", "deferred", "awaiting_input", "up_for_retry", "queued", None])
def test_what_is_waited_for_is_no_finding(row: Any, run: Any, state: str | None) -> None:
    waits(row)
    put(row, state)
    assert reconcile(run, row)[1] == []


@pytest.mark.parametrize("state", [None, "scheduled", "queued", "up_for_retry", "running", "deferred"])
def test_an_agent_from_before_a_clear_is_found_until_the_next_try_begins(
    row: Any, run: Any, agent_task_sandbox: Any, state: str | None
) -> None:
    waits(row, max_tries=read(row).max_tries - 1)
    put(row, state)
    status, found = reconcile(run, row, "--stop")
    if state in ("running", "deferred"):
        assert found == []
    else:
        assert (status, [one["finding"] for one in found]) == (1, ["cleared"])
    (agent,) = agent_task_sandbox.tasks()
    assert (agent["status"], read(row).state) == ("running", state)


def test_an_agent_that_another_task_waits_for_is_no_finding(
    shinzo_row: Any, run_dag: Any, run: Any, agent_task_sandbox: Any
) -> None:
    other = start(run_dag)
    waits(shinzo_row)
    put(shinzo_row, "failed")
    first, _ = agent_task_sandbox.tasks()
    waits(other, task_id=first["task_id"])
    assert reconcile(run, shinzo_row, "--stop")[1] == []
    put(other, "failed")
    assert [one["finding"] for one in reconcile(run, shinzo_row)[1]] == ["abandoned"]


def test_what_has_ended_on_both_sides_is_no_finding(row: Any, run: Any, agent_task_sandbox: Any) -> None:
    waits(row)
    (agent,) = agent_task_sandbox.tasks()
    assert run("stop", agent["task_id"])[0] == 0
    finish_stops()
    assert reconcile(run, row)[1] == []


def test_an_agent_task_that_its_service_lost_is_found(row: Any, run: Any) -> None:
    waits(row, task_id="tsk_gone")
    _, (found,) = reconcile(run, row, "--stop")
    assert found["finding"] == "gone"
    assert read(row).state == "deferred"
    put(row, "failed")
    assert reconcile(run, row)[1] == []


@pytest.mark.parametrize("state", ["failed", "up_for_retry", "deferred"])
def test_an_uncertain_start_is_found(row: Any, run: Any, state: str) -> None:
    waits(row, task_id=None)
    put(row, state)
    _, (found,) = reconcile(run, row, "--stop")
    assert (found["finding"], found["agent_task_id"]) == ("uncertain", "")
    assert "airflow-" in found["details"]


def test_a_start_that_is_just_being_sent_is_no_finding(row: Any, run: Any) -> None:
    waits(row, task_id=None)
    put(row, "running")
    assert reconcile(run, row)[1] == []


def test_a_damaged_record_and_a_service_that_is_down_are_found(
    row: Any, run: Any, agent_task_sandbox: Any
) -> None:
    put(row, "failed")
    waits(row)
    agent_task_sandbox.faults([{"path": "/agent", "status": 403, "times": 100}])
    assert reconcile(run, row, "--stop")[1][0]["finding"] == "unreachable"
    change_record(row, lambda record: "damaged")
    assert reconcile(run, row, "--stop")[1][0]["finding"] == "damaged"


def test_the_command_prints_nothing_but_its_output(shinzo_row: Any) -> None:
    command = [sys.executable, "-m", "airflow", "agent-tasks", "list", "--output", "json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert shinzo_row.dag_id in {one["dag_id"] for one in json.loads(result.stdout)}
