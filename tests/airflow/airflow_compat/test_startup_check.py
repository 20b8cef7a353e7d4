"""What API server, scheduler and triggerer report at their start of an Airflow that does not fit."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.api_fastapi.core_api.routes.public import public_router
from airflow.jobs.job import Job
from airflow.models.hitl import HITLDetail
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.sdk.execution_time import comms, task_runner
from pytest_mock import MockerFixture
from sqlalchemy import delete, text

from airflow_agent_tasks.airflow_compat import startup_check
from airflow_agent_tasks.airflow_compat.requirement import Part, Requirement
from airflow_agent_tasks.airflow_compat.requirements import REQUIREMENTS
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow_agent_tasks.documentation import link
from airflow_agent_tasks.plugin import listener
from airflow_agent_tasks.plugin.startup import Startup
from tests.test_layers import is_public, list_airflow_names, walk_imports

DOOR = Path(startup_check.__file__).parent
#: Those of the state store that have the same name in each release.
COLUMNS = ("id", "key", "dag_run_id", "dag_id", "run_id", "task_id", "value", "updated_at", "expires_at")
CONSEQUENCES = {requirement.module: requirement.consequence for requirement in REQUIREMENTS}
#: Modules that only doctor uses: it reports itself what it could not check.
OF_DOCTOR = [DOOR / "console.py", DOOR / "deployment.py"]
#: All others but the table itself, which holds names and imports nothing of Airflow.
IN_THE_TABLE = sorted({*DOOR.glob("*.py")} - {*OF_DOCTOR, DOOR / "requirement.py", DOOR / "requirements.py"})
#: What every Airflow has, and a provider that need not be there: its name is compared, never imported.
NEEDS_NO_LINE = {"airflow.__version__", "airflow.providers.celery.executors.celery_executor.CeleryExecutor"}
FORM_COLUMNS = dict.fromkeys(HITLDetail.__mapper__.columns.keys())


@pytest.fixture(autouse=True)
def unchecked() -> None:
    startup_check.check_private_parts.cache_clear()


def start(process: str, routes: Any = public_router.routes) -> None:
    """Do what a process does at its start with this package's plugin in it."""

    async def airflow(*request: Any) -> None: ...

    if process == "api_server":
        app = SimpleNamespace(routes=routes, middleware_stack=airflow)
        scope = {"type": "lifespan", "app": app}
        asyncio.run(Startup(airflow)(scope, "receive", "send"))
    else:
        listener.on_starting(Job.__new__(Job))


@pytest.mark.parametrize("process", ["api_server", "scheduler"])
def test_nothing_is_reported_on_an_airflow_that_fits(caplog: Any, process: str) -> None:
    start(process)
    assert caplog.text == ""


def test_a_server_in_front_of_which_nothing_can_stand_is_reported(caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "airflow_agent_tasks.plugin.callback_endpoint", None)
    start("api_server")
    assert "callbacks cannot be received (ModuleNotFoundError" in caplog.text
    assert "So tasks whose services call back are not woken" in caplog.text


@pytest.mark.parametrize("process", ["api_server", "scheduler"])
@pytest.mark.parametrize(
    ("moved", "user"),
    [
        ("airflow.models.task_state_store", "ended_tasks"),
        ("airflow.models.hitl", "form_rows"),
        ("airflow.jobs.job", "resume_delay"),
        ("airflow.sdk.execution_time.comms", "supervisor"),
        ("airflow.configuration", "secret_key"),
    ],
)
def test_a_part_that_has_moved_is_reported_with_what_follows(
    caplog: Any, monkeypatch: Any, process: str, moved: str, user: str
) -> None:
    monkeypatch.setitem(sys.modules, moved, None)
    start(process)
    assert f"does not fit Airflow {startup_check.AIRFLOW_VERSION}: {moved}:" in caplog.text
    assert f"So {CONSEQUENCES[user]}." in caplog.text
    assert "Traceback" not in caplog.text
    assert all(record.levelname == "ERROR" and record.exc_info is None for record in caplog.records)


@pytest.mark.parametrize(
    ("module", "stub", "fault", "user"),
    [
        (
            "airflow.models.task_state_store",
            {"TaskStateStoreModel": SimpleNamespace(**dict.fromkeys(COLUMNS, 1))},
            "airflow.models.task_state_store:TaskStateStoreModel.map_index or region_index is missing",
            "ended_tasks",
        ),
        (
            "airflow.models.hitl",
            {"HITLDetail": SimpleNamespace(**{**FORM_COLUMNS, "response_received": 1, "title": 1})},
            "airflow.models.hitl:HITLDetail.as_resume_event_payload is missing",
            "form_rows",
        ),
        (
            "airflow.sdk.execution_time.comms",
            {
                "GetTaskStates": lambda dag_id, run_ids, task_ids: None,
                "TaskStatesResult": comms.TaskStatesResult,
            },
            "map_index is not accepted by airflow.sdk.execution_time.comms:GetTaskStates",
            "supervisor",
        ),
        (
            "airflow.sdk.execution_time.hitl",
            {"upsert_hitl_detail": lambda ti_id, options, subject, body, params: None},
            "assigned_users is not accepted by airflow.sdk.execution_time.hitl:upsert_hitl_detail",
            "required_action",
        ),
    ],
    ids=["column", "property", "message", "argument"],
)
def test_an_airflow_that_lacks_a_column_or_an_argument_gets_one_line(
    caplog: Any, monkeypatch: Any, module: str, stub: dict[str, Any], fault: str, user: str
) -> None:
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**stub))
    start("scheduler")
    (line,) = caplog.messages
    assert line == (
        f"airflow-agent-tasks does not fit Airflow {startup_check.AIRFLOW_VERSION}: {fault}. "
        f"So {CONSEQUENCES[user]}. See {link('how-to/check-a-deployment#what-the-servers-check-themselves')}"
    )


@pytest.mark.parametrize("index", ["map_index", "region_index"])
def test_either_name_of_a_column_that_releases_name_differently_will_do(monkeypatch: Any, index: str) -> None:
    columns = dict.fromkeys((*COLUMNS, index))
    stub = SimpleNamespace(TaskStateStoreModel=SimpleNamespace(**columns))
    monkeypatch.setitem(sys.modules, "airflow.models.task_state_store", stub)
    assert startup_check.list_misfits() == []


def test_what_takes_any_argument_and_what_is_only_declared_are_there(monkeypatch: Any) -> None:
    stub = SimpleNamespace(call=lambda **names: None, __annotations__={"later": "Any"})
    monkeypatch.setitem(sys.modules, "airflow.stub", stub)
    parts = (Part("airflow.stub:call", parameters="a b"), Part("airflow:stub", attributes="later"))
    monkeypatch.setattr("airflow.stub", stub, raising=False)
    monkeypatch.setattr(startup_check, "REQUIREMENTS", (Requirement("supervisor", "nothing works", parts),))
    assert startup_check.list_misfits() == []


def test_a_module_that_needs_more_than_the_table_says_is_reported(monkeypatch: Any, caplog: Any) -> None:
    # No other module of the table imports this one.
    monkeypatch.setitem(sys.modules, "airflow_agent_tasks.airflow_compat.early_answer_delay", None)
    start("scheduler")
    (line,) = caplog.messages
    assert "airflow_agent_tasks.airflow_compat.early_answer_delay cannot be imported" in line
    assert CONSEQUENCES["early_answer_delay"] in line


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="only Airflow 3.4 and later discards state with a clear")
@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM task_state_store",
        delete(TaskStateStoreModel).where(TaskStateStoreModel.dag_id == "a DAG"),
    ],
    ids=["text", "other columns"],
)
def test_a_clear_that_discards_state_in_another_way_is_reported(
    caplog: Any, mocker: MockerFixture, query: Any
) -> None:
    statement = text(query) if isinstance(query, str) else query
    clear = mocker.patch("airflow.state.metastore.MetastoreBackend.clear")
    clear.side_effect = lambda scope, session: session.execute(statement)
    start("scheduler")
    (line,) = caplog.messages
    assert CONSEQUENCES["kept_records"] in line


@pytest.mark.parametrize("process", ["api_server", "scheduler"])
def test_a_check_that_fails_itself_ends_no_server(
    caplog: Any, monkeypatch: Any, mocker: MockerFixture, process: str
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("not today")

    monkeypatch.setitem(sys.modules, "airflow.jobs.job", Broken())
    mocker.patch.object(startup_check, "find_version_problem", side_effect=LookupError("no metadata"))
    start(process)
    first, second = caplog.messages
    assert "airflow.jobs.job:Job cannot be checked (RuntimeError('not today'))" in first
    assert second.startswith("Could not check whether airflow-agent-tasks fits Airflow ")
    assert second.endswith(": LookupError('no metadata')")


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        (
            "apache-airflow",
            "9.1.0",
            "Airflow 9.1.0 is newer than any that airflow-agent-tasks was tested with (<",
        ),
        (
            "apache-airflow",
            "3.2.9",
            "Airflow 3.2.9 is older than those that airflow-agent-tasks was tested with",
        ),
        ("python", "3.99.1", "Python 3.99.1 is newer than any that airflow-agent-tasks was tested with (<"),
        ("apache-airflow", startup_check.AIRFLOW_VERSION, None),
    ],
)
def test_a_version_out_of_the_range_is_named(name: str, version: str, words: str | None) -> None:
    problem = startup_check.find_version_problem(name, version)
    assert problem is None if words is None else problem is not None and problem.startswith(words)


def test_a_version_out_of_the_range_is_reported_at_the_start(caplog: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(startup_check, "AIRFLOW_VERSION", "9.1.0")
    start("scheduler")
    (line,) = caplog.messages
    assert line.startswith("Airflow 9.1.0 is newer than any that airflow-agent-tasks was tested with (")


def test_a_route_that_has_moved_is_reported_at_the_start(caplog: Any) -> None:
    start("api_server", [route for route in public_router.routes if "hitlDetails" not in route.path])
    assert "an answer within seconds of its question may fail the task" in caplog.text


def test_routes_that_cannot_be_read_end_no_api_server(caplog: Any) -> None:
    start("api_server", None)
    assert "an answer within seconds of its question may fail the task" in caplog.text


def test_a_worker_checks_nothing_at_its_start() -> None:
    listener.on_starting(task_runner.TaskRunnerMarker())
    assert startup_check.check_private_parts.cache_info().currsize == 0


# --- the table itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", IN_THE_TABLE, ids=lambda path: path.stem)
def test_the_table_names_every_private_part_that_a_module_imports(path: Path) -> None:
    named = {part.name for one in REQUIREMENTS if one.module == path.stem for part in one.parts}
    known = {re.split(r"[:.]", name.partition(":")[2])[0] for name in named}
    imported = {name for name in list_airflow_names(ast.parse(path.read_text())) if not is_public(name)}
    missing = {name for name in imported if name.rpartition(".")[2] not in known}
    assert missing <= NEEDS_NO_LINE


@pytest.mark.parametrize("path", OF_DOCTOR, ids=lambda path: path.stem)
def test_what_only_doctor_needs_is_imported_where_it_is_used(path: Path) -> None:
    imports = list(walk_imports(ast.parse(path.read_text())))
    of_airflow = [found for found in imports if found.target.startswith("airflow.")]
    assert of_airflow
    assert [found for found in of_airflow if not found.is_lazy] == []


def test_each_line_of_the_table_is_about_a_module_of_the_door() -> None:
    modules = [requirement.module for requirement in REQUIREMENTS]
    assert set(modules) <= {path.stem for path in DOOR.glob("*.py")}
    assert len(modules) == len(set(modules))
