"""``airflow agent-tasks doctor``: what it finds in a real API server, database and service."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.jobs.job import Job
from airflow.models.connection import Connection
from airflow.sdk import timezone
from airflow.utils.session import create_session
from pytest_mock import MockerFixture
from sqlalchemy import delete

from airflow_agent_tasks.airflow_compat import deployment, worker_request_signature
from airflow_agent_tasks.airflow_compat.api_server import send_order
from airflow_agent_tasks.cli import check_api_server, check_components, doctor
from airflow_agent_tasks.cli.finding import Finding
from airflow_agent_tasks.plugin import health_endpoint, signed_orders
from airflow_agent_tasks.services.http import Request
from tests.airflow.conftest import serve_airflow

COMMAND = [sys.executable, "-m", "airflow", "agent-tasks", "doctor", "--output", "json"]
ALIVE = {"SchedulerJob": -600.0, "TriggererJob": -600.0}
WRONG_KEY = "sk_a_wrong_key_of_the_tests"


@pytest.fixture(autouse=True)
def process_context(monkeypatch: Any) -> None:
    """Let a test set what tells Airflow in which kind of process it is."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT")


@pytest.fixture
def alive(api_server: str) -> Iterator[Callable[..., None]]:
    """
    Return a function that writes heartbeats as a scheduler and a triggerer do; both are alive at first.

    Those that count as alive lie in the future: a process under load may take half a minute to read them.
    """

    def beat(**seconds_ago: float) -> None:
        with create_session() as session:
            session.execute(delete(Job))
            for job_type, seconds in seconds_ago.items():
                seen_at = timezone.utcnow() - timedelta(seconds=seconds)
                session.add(Job(job_type=job_type, state="running", latest_heartbeat=seen_at))

    beat(**ALIVE)
    yield beat
    with create_session() as session:
        session.execute(delete(Job))


@pytest.fixture(scope="module")
def without_plugin(api_server: str, module_mocker: MockerFixture) -> Iterator[str]:
    """The address of an API server of Airflow in which no plugin is loaded."""
    module_mocker.patch("airflow.plugins_manager.get_fastapi_plugins", return_value=([], []))
    with socket.create_server(("127.0.0.1", 0)) as listening, serve_airflow(listening):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def find(conn_ids: list[str] | None = None, *, wanted: str = "failed") -> dict[str, Finding]:
    """Return the findings with a verdict, by check."""
    findings = doctor.examine(conn_ids)
    return {finding.check: finding for finding in findings if finding.verdict == wanted}


def run(**environment: str) -> tuple[int, list[dict[str, str]], str]:
    """Run the command in a process of its own; return its exit status, rows and all that it printed."""
    # Airflow's own warnings (on Python 3.14 it uses what is deprecated there) would come before the rows.
    whole = {**os.environ, "PYTHONWARNINGS": "ignore", **environment}
    command = [*COMMAND, "--connections"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=whole)
    return ended.returncode, json.loads(ended.stdout), ended.stdout + ended.stderr


# --- the command, in a process of its own ---------------------------------------------------------------


def test_a_worker_without_a_database_finds_everything_in_order(
    alive: Any, agent_task_sandbox: Any, tmp_path: Path
) -> None:
    no_database = f"sqlite:///{tmp_path}/none.db"
    status, rows, printed = run(AIRFLOW_HOME=str(tmp_path), AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=no_database)
    verdicts = [(row["check"], row["verdict"]) for row in rows]
    assert verdicts == [
        ("versions", "ok"),
        ("configuration", "ok"),
        ("Airflow internals", "ok"),
        ("API server", "ok"),
        ("plugin", "ok"),
        ("secret key", "ok"),
        *[("clocks", "ok")] * 2,
        ("callbacks", "ok"),
        ("scheduler", "ok"),
        ("triggerer", "ok"),
        ("connection lightcone_default", "ok"),
        ("connection shinzo_default", "ok"),
        ("connections", "warning"),  # those of the database are not seen from here
    ], printed
    assert status == 0
    assert "Traceback" not in printed
    assert list(tmp_path.glob("*.db")) == []  # reading from the missing database would have made one


def test_a_worker_without_a_database_does_not_know_whether_a_connection_exists(
    alive: Any, airflow_home: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from airflow.configuration import conf

    missing = f"sqlite:///{tmp_path}/none.db"
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", missing)
    assert conf.get("database", "sql_alchemy_conn") == missing
    (found,) = find(["of_the_database"], wanted="warning").values()
    assert found.check == "connection of_the_database"
    assert found.remedy == "Run this command where the scheduler runs."


def test_several_faults_are_found_in_one_run_and_no_key_is_shown(alive: Any, agent_task_sandbox: Any) -> None:
    alive(SchedulerJob=-600)
    wrong = {"conn_type": "shinzo", "password": WRONG_KEY, "host": agent_task_sandbox.url}
    variables = {"AIRFLOW_CONN_SHINZO_DEFAULT": json.dumps(wrong), "AIRFLOW__API__SECRET_KEY": "another-key"}
    status, rows, printed = run(**variables)
    found = {row["check"]: row for row in rows if row["verdict"] != "ok"}
    assert status == 1
    assert set(found) == {"secret key", "triggerer", "connection shinzo_default"}, printed
    assert "[api] secret_key (AIRFLOW__API__SECRET_KEY) to the same value" in found["secret key"]["remedy"]
    assert "airflow triggerer" in found["triggerer"]["remedy"]
    assert "Traceback" not in printed
    assert not any(key in printed for key in (WRONG_KEY, "another-key", agent_task_sandbox.api_key))


# --- one planted fault each -----------------------------------------------------------------------------


def test_an_api_server_that_is_away_is_found(alive: Any, monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", address)
    (found,) = find().values()
    assert found.check == "API server"
    assert f"no connection to {address.removeprefix('http://')}" in found.details
    assert "Start the API server, and check [core] execution_api_server_url" in found.remedy
    # Scheduler and triggerer are found in the database then.
    assert {"scheduler", "triggerer"} <= set(find(wanted="ok"))


def test_an_api_server_without_the_plugin_is_found(alive: Any, without_plugin: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", without_plugin)
    (found,) = find().values()
    assert found.check == "plugin"
    assert found.details.startswith("not loaded or outdated in the API server at http://")
    assert found.details.endswith(" (status 405)")
    assert re.fullmatch("Install airflow-agent-tasks [^ ]+ there, and restart the API server.", found.remedy)


def test_another_address_is_asked_where_the_first_serves_only_workers(
    alive: Any, without_plugin: str, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"{without_plugin}/execution/")
    assert find() == {}


def test_the_address_that_does_not_answer_is_named_beside_one_without_the_plugin(
    alive: Any, without_plugin: str, monkeypatch: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"{without_plugin}/execution/")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"http://{address}")
    assert set(find()) == {"plugin"}
    assert f"no connection to {address}" in find(wanted="warning")["API server"].details


def test_the_plugin_reports_its_health_to_no_other_order(alive: Any, api_server: str) -> None:
    order = Request("POST", check_api_server.PATH, "ask for the plugin's health", json={})
    assert send_order(api_server, order).status == 400


@pytest.mark.parametrize("key", ["another key", None])
def test_an_api_server_with_another_secret_key_is_found(alive: Any, mocker: MockerFixture, key: Any) -> None:
    mocker.patch.object(signed_orders, "read_secret_key", return_value=key)
    (found,) = find().values()
    assert found.check == "secret key"
    assert "Set [api] secret_key (AIRFLOW__API__SECRET_KEY) to the same value" in found.remedy


@pytest.mark.parametrize(("seconds", "verdict"), [(20, "warning"), (-90, "failed")])
def test_a_clock_that_differs_is_not_taken_for_another_key(
    alive: Any, mocker: MockerFixture, seconds: float, verdict: str
) -> None:
    # The server verifies by its own clock, and sends it; to it, this machine's clock differs the other way.
    there = mocker.patch.object(worker_request_signature, "time")
    there.time.side_effect = lambda: time.time() + seconds
    here = mocker.patch.object(check_api_server, "time")
    here.time.side_effect = lambda: time.time() - seconds
    found = find(wanted=verdict)
    assert set(found) == {"clocks"}
    assert "NTP" in found["clocks"].remedy
    assert ("ahead" if seconds > 0 else "behind") in found["clocks"].details


def test_a_database_with_another_clock_is_found(alive: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(deployment, "read_database_time", side_effect=lambda: time.time() + 30)
    (found,) = find(wanted="warning").values()
    assert found.details == "the database's clock, compared with the API server's, is 30 s ahead"


def test_the_clock_of_the_real_database_is_read(airflow_home: Path) -> None:
    assert abs(deployment.read_database_time() - time.time()) < 5


def test_an_unknown_column_is_found_here_and_in_the_api_server(
    alive: Any, monkeypatch: Any, mocker: MockerFixture
) -> None:
    names = ("id", "key", "dag_run_id", "dag_id", "run_id", "task_id", "value", "updated_at", "expires_at")
    columns = dict.fromkeys(names)
    renamed = SimpleNamespace(TaskStateStoreModel=SimpleNamespace(**columns, place=1))
    monkeypatch.setitem(sys.modules, "airflow.models.task_state_store", renamed)
    failed = [finding for finding in doctor.examine(None) if finding.verdict == "failed"]
    assert [finding.check for finding in failed] == ["Airflow internals", "plugin"]
    for finding in failed:
        assert "TaskStateStoreModel.map_index or region_index is missing. So " in finding.details
        assert finding.remedy.startswith("Upgrade airflow-agent-tasks")


def test_another_version_in_the_api_server_is_found(alive: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(health_endpoint, "version", return_value="0.0.1")
    (found,) = find(wanted="warning").values()
    assert "the API server has airflow-agent-tasks 0.0.1, this machine" in found.details


def test_an_airflow_that_this_package_was_not_tried_on_is_a_warning(
    alive: Any, mocker: MockerFixture
) -> None:
    mocker.patch("airflow_agent_tasks.cli.check_installation.AIRFLOW_VERSION", "9.0.0")
    (found,) = find(wanted="warning").values()
    assert found.details.startswith(
        "Airflow 9.0.0 is newer than any that airflow-agent-tasks was tested with ("
    )


@pytest.mark.parametrize(
    ("seconds_ago", "verdict", "details"),
    [
        ({"TriggererJob": 3600.0}, "failed", "not alive (last heartbeat "),
        ({}, "warning", "never started, so deferred tasks never resume"),
    ],
)
def test_no_living_triggerer_is_found(alive: Any, seconds_ago: Any, verdict: str, details: str) -> None:
    alive(SchedulerJob=-600, **seconds_ago)
    (found,) = find(wanted=verdict).values()
    assert (found.check, found.details.startswith(details)) == ("triggerer", True)
    assert found.remedy.startswith("Start it: airflow triggerer")


def test_no_living_scheduler_is_found(alive: Any) -> None:
    alive(TriggererJob=-600)
    (found,) = find().values()
    assert (found.check, found.remedy) == ("scheduler", "Start it: airflow scheduler")


def test_components_that_nobody_can_tell_of_are_said_to_be_unchecked(
    alive: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(check_components, "_ask_api_servers", return_value=None)
    mocker.patch.object(deployment, "read_health", return_value={"metadatabase": {"status": "unhealthy"}})
    (found,) = find().values()
    assert found.details.startswith("not checked: neither the API server nor this machine")


# --- connections ----------------------------------------------------------------------------------------


def test_a_wrong_key_is_found_in_a_connection_of_the_database(
    alive: Any, agent_task_sandbox: Any, monkeypatch: Any
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SHINZO_DEFAULT")
    monkeypatch.setenv("AIRFLOW_CONN_SOMETHING_ELSE", "no-such-type://host")
    wrong = Connection(conn_id="mine", conn_type="shinzo", host=agent_task_sandbox.url)
    wrong.set_password(WRONG_KEY)
    with create_session() as session:
        session.add(wrong)
    try:
        found = find([])
        assert set(find([], wanted="ok")) >= {"connection lightcone_default"}
    finally:
        with create_session() as session:
            session.execute(delete(Connection).where(Connection.conn_id == "mine"))
    assert set(found) == {"connection mine"}
    assert "Shinzo answered 401" in found["connection mine"].details
    assert found["connection mine"].remedy == (
        "Check the JWT or platform API key in the connection's password field. "
        "The connection is listed under Admin → Connections."
    )


def test_only_the_named_connections_are_tried(alive: Any, agent_task_sandbox: Any) -> None:
    found = find(["no_such"])
    assert set(found) == {"connection no_such"}
    assert "AIRFLOW_CONN_NO_SUCH" in found["connection no_such"].remedy
    assert agent_task_sandbox.requests() == []


def test_the_variables_of_lightcones_own_sdk_are_tried(
    alive: Any, agent_task_sandbox: Any, monkeypatch: Any
) -> None:
    for name in ("LIGHTCONE", "SHINZO"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{name}_DEFAULT")
    monkeypatch.setenv("LIGHTCONE_BASE_URL", agent_task_sandbox.url)
    monkeypatch.setenv("TZAFON_API_KEY", WRONG_KEY)
    assert set(find([])) == {"connection lightcone_default"}


def test_the_command_works_where_airflow_has_moved_what_it_reads_itself(
    alive: Any, agent_task_sandbox: Any, monkeypatch: Any
) -> None:
    for name in ("airflow.utils.session", "airflow.api.common.airflow_health", "airflow.models.connection"):
        monkeypatch.setitem(sys.modules, name, None)
    findings = doctor.examine([])
    assert [finding.check for finding in findings if finding.check.startswith("connection ")] == [
        "connection lightcone_default",
        "connection shinzo_default",
    ]
    assert {finding.verdict for finding in findings if finding.check == "Airflow internals"} == {"failed"}


# --- whatever goes wrong in a check itself ---------------------------------------------------------------


def test_the_command_ends_though_the_process_could_not_clean_up(airflow_home: Path) -> None:
    program = """
        import atexit, time, types
        from airflow_agent_tasks.cli import check_api_server, check_components, doctor

        doctor.TIMEOUT = 1.0
        check_api_server.check_api_server = check_components.check_components = lambda: time.sleep(600)
        atexit.register(time.sleep, 600)
        doctor.run(types.SimpleNamespace(connections=None, output="json"))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    overdue = [row["check"] for row in json.loads(ended.stdout) if row["details"] == "no result after 1 s"]
    assert set(overdue) >= {"API server", "scheduler, triggerer"}
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)


def test_what_a_check_found_before_it_hung_is_kept(alive: Any, mocker: MockerFixture) -> None:
    over = threading.Event()

    def hang() -> Iterator[Finding]:
        yield Finding("connection one", "ok", "the service accepted the key")
        over.wait(20)

    mocker.patch("airflow_agent_tasks.cli.check_connections.check_connections", side_effect=lambda _: hang())
    mocker.patch.object(doctor, "TIMEOUT", 3.0)
    findings = {finding.check: finding.verdict for finding in doctor.examine([])}
    over.set()
    assert findings["connection one"] == "ok"
    assert findings["connections"] == "failed"


def test_a_check_that_raises_or_hangs_is_a_row_and_the_others_are_made(
    alive: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(doctor, "TIMEOUT", 0.2)
    over = threading.Event()
    checks = {
        "check_installation.check_versions": ValueError("no version"),
        "check_api_server.check_api_server": lambda: over.wait(20),
        "check_components.check_components": lambda: [Finding("scheduler", "ok", "alive")],
    }
    for name, effect in checks.items():
        mocker.patch(f"airflow_agent_tasks.cli.{name}", side_effect=effect)
    findings = {finding.check: finding for finding in doctor.examine(None)}
    over.set()
    assert findings["versions"].details == "could not be checked: ValueError: no version"
    assert findings["API server"].details == "no result after 0.2 s"
    assert findings["scheduler"].verdict == "ok"
    assert {findings[name].verdict for name in ("versions", "API server")} == {"failed"}
