"""Every test process gets an Airflow of its own: home, database and DAGs folder, set before its import."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.raw_server import RawServer

_RESOURCES = ExitStack()
AIRFLOW_HOME = Path(_RESOURCES.enter_context(tempfile.TemporaryDirectory(prefix="airflow-agent-tasks-")))
#: The URL of the database server, or None on SQLite.
SERVER_URL = pytest.StashKey[str | None]()

for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "TZAFON_", "LIGHTCONE_"))]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = str(AIRFLOW_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = (
        "where Airflow keeps its data: sqlite, the default; postgresql, a server started for the tests; or "
        "the SQLAlchemy URL of a running server, in which each test process creates a database and leaves it"
    )
    parser.addoption("--database", metavar="sqlite|postgresql|URL", default="sqlite", help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    """Start a PostgreSQL server, once for all processes of pytest-xdist, and create a database for each."""
    config.stash[SERVER_URL] = None
    database = config.getoption("database")
    if database == "sqlite":
        return
    running = database if "://" in database else None
    if database != "postgresql" and not running:
        raise pytest.UsageError(f"--database: {database} is neither sqlite nor postgresql nor a URL")
    if "airflow" in sys.modules:
        # It has read its settings: half of the tests would use SQLite, without tables.
        raise pytest.UsageError(
            "a conftest.py has imported Airflow before --database; name a folder above it"
        )
    # Imported here: the pure tests need no database driver.
    from lab.cluster.postgresql import PostgresqlError, create_database, run_postgresql

    try:
        inherited = getattr(config, "workerinput", {}).get("server_url", running)
        config.stash[SERVER_URL] = server_url = inherited or _RESOURCES.enter_context(run_postgresql())
    except PostgresqlError as error:
        raise pytest.UsageError(str(error)) from error
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = create_database(server_url)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["server_url"] = node.config.stash[SERVER_URL]


def pytest_unconfigure() -> None:
    _RESOURCES.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest first: at the end it would run alone, for minutes.
    items.sort(key=lambda item: "test_faults.py" not in item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Fail a test that leaves a connection behind, which would serve the next tests of this process."""
    yield
    left = [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
    for name in left:
        del os.environ[name]
    assert not left, f"the test has left {left} in the environment"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests have counted, summed over all of them."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update({name: count for name, count in report.user_properties if isinstance(count, int)})
    for name, count in counts.items():
        terminalreporter.write_line(f"{name}: {count:,}")


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The home of an Airflow with a migrated database."""
    (AIRFLOW_HOME / "dags").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return AIRFLOW_HOME


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Return a function that starts a server with scripted replies."""
    with ExitStack() as servers:
        yield lambda *replies, **options: servers.enter_context(RawServer(*replies, **options))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Any]:
    # Imported here: the pure tests measure what they run of the pure rooms, imports included.
    from airflow_agent_tasks.sandbox.server import Sandbox

    with Sandbox() as server:
        yield server


@pytest.fixture(scope="session")
def create_cluster_database(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Return a function that creates an empty database on the server for a cluster; on SQLite, None."""
    server_url = request.config.stash[SERVER_URL]
    if server_url is None:
        return lambda: None
    from lab.cluster.postgresql import create_database

    return lambda: create_database(server_url)


@pytest.fixture(scope="module")
def cluster(
    request: Any, sandbox: Any, tmp_path_factory: Any, create_cluster_database: Callable[[], str | None]
) -> Iterator[Any]:
    """
    A real Airflow, with its own processes, for the tests that need the scheduler, the triggerer or the UI.

    It has the module's ``DAGS`` (file name → source) and, where there are any, its ``SETTINGS`` (environment
    variables).
    """
    # Imported here: the pure tests need neither an Airflow nor what talks to it.
    from lab.cluster.airflow_cluster import AirflowCluster

    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    dags.mkdir()
    for name, source in request.module.DAGS.items():
        (dags / name).write_text(source)
    # The demo shortens this interval; here the package must work with what users have.
    environment = {
        **sandbox.connection_variables(),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
        **getattr(request.module, "SETTINGS", {}),
    }
    database_url = create_cluster_database()
    with AirflowCluster(
        folder / "home", dags_folder=dags, environment=environment, database_url=database_url
    ) as running:
        dag_ids = [Path(name).stem for name in request.module.DAGS]
        running.wait_for_dags(dag_ids)
        for dag_id in dag_ids:
            running.api.unpause(dag_id)
        yield running
