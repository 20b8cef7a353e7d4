"""The harness's PostgreSQL server: what it offers, and that nothing is left of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture
from sqlalchemy import create_engine, make_url, text

from lab.cluster import postgresql
from lab.cluster.postgresql import PostgresqlError, create_database, find_programs, run_postgresql
from lab.cluster.processes import find_free_ports, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    skip_unless_installed()
    with run_postgresql() as url:
        yield url


def skip_unless_installed() -> None:
    try:
        find_programs()
    except PostgresqlError as error:
        pytest.skip(str(error))


def select(url: str, statement: str) -> Any:
    engine = create_engine(url)
    with engine.begin() as connection:
        value = connection.execute(text(statement)).scalar()
    engine.dispose()
    return value


def is_listening(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(make_url(url).port or 0))) == 0


def test_each_database_is_separate(server_url: str) -> None:
    first, second = create_database(server_url), create_database(server_url)

    assert select(first, "CREATE TABLE one AS SELECT 1 AS number; SELECT number FROM one") == 1
    assert select(first, "SELECT to_regclass('one')::text") == "one"
    assert select(second, "SELECT to_regclass('one')::text") is None


def test_only_this_machine_can_connect(server_url: str) -> None:
    assert select(server_url, "SHOW listen_addresses") == "127.0.0.1"
    assert select(server_url, "SHOW unix_socket_directories") == ""


def test_the_server_ends_with_the_block_and_leaves_no_folder() -> None:
    skip_unless_installed()
    seen = []

    def use(url: str) -> None:
        folder = Path(select(url, "SHOW data_directory")).parent
        seen.append((url, folder, is_listening(url), folder.exists()))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), run_postgresql() as url:
        use(url)

    ((url, folder, *was_there),) = seen
    assert was_there == [True, True]
    assert (is_listening(url), folder.exists()) == (False, False)


STARTER = """
import time
from lab.cluster.postgresql import run_postgresql
with run_postgresql() as url:
    print(url, flush=True)
    time.sleep(60)
"""


def test_the_server_ends_with_a_process_that_was_killed() -> None:
    skip_unless_installed()
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout
        url = starter.stdout.readline().strip()
        folder = Path(select(url, "SHOW data_directory")).parent
        starter.kill()

    assert wait_until(lambda: not is_listening(url) and not folder.exists(), timeout=30)


def test_a_server_that_does_not_start_is_an_error_with_the_end_of_its_log(mocker: MockerFixture) -> None:
    skip_unless_installed()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        mocker.patch.object(postgresql, "find_free_ports", return_value=[taken.getsockname()[1]])
        problem = r"(?s)pg_ctl ended with exit status 1.*in use"
        with pytest.raises(PostgresqlError, match=problem), run_postgresql():
            pass


def test_a_port_that_another_process_has_taken_meanwhile_is_replaced_by_another(
    mocker: MockerFixture,
) -> None:
    skip_unless_installed()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, (other,) = taken.getsockname()[1], find_free_ports(1)
        mocker.patch.object(postgresql, "find_free_ports", side_effect=[[port], [other]])
        with run_postgresql() as url:
            assert make_url(url).port == other
            assert select(url, "SELECT 1") == 1


def test_a_machine_without_postgresql_is_told_how_to_install_it(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mocker.patch.object(postgresql, "DEBIAN_FOLDER", tmp_path)
    with pytest.raises(PostgresqlError, match="apt-get install postgresql"), run_postgresql():
        pass


def test_debians_newest_version_is_used(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    mocker.patch.object(postgresql, "DEBIAN_FOLDER", tmp_path)
    for version in ("9", "15", "17"):
        program = tmp_path / version / "bin" / "initdb"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)

    assert find_programs() == tmp_path / "17" / "bin"
