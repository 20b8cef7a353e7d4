"""
A PostgreSQL server for tests on this machine: in a temporary folder, on a free port, stopped with its owner.

    with run_postgresql() as server_url:
        url = create_database(server_url)  # postgresql+psycopg2://…, for [database] sql_alchemy_conn

Its data does not survive a crash of the machine, and everyone on this machine may connect: it contains only
what a test writes.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.cluster.airflow_environment import build_clean_environment
from lab.cluster.processes import find_free_ports

#: Where Debian and Ubuntu install the programs of each version; they are not on the PATH.
DEBIAN_FOLDER = Path("/usr/lib/postgresql")
#: Debian's user for PostgreSQL, and one that every system has.
UNPRIVILEGED_USERS = ("postgres", "nobody")
#: Seconds within which each of its programs must finish.
TIMEOUT = 60.0
#: Ends the server and removes its folder when the pipe to it closes: at the end of the block, or because the
#: process that started the server was killed.
GUARD = 'cat; "$1" stop -D "$2/data" --mode=immediate; rm -rf "$2"'
#: The server's log message if another process listens on its port.
ADDRESS_IN_USE = "Address already in use"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # For several Airflows at once, each with a connection pool per component.
    "max_connections": "300",
    # Fast instead of durable.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class PostgresqlError(Exception):
    """PostgreSQL is not installed, or its server did not start."""


@contextmanager
def run_postgresql() -> Iterator[str]:
    """
    Start a server and yield its SQLAlchemy URL; stop it at the end of the block, or with this process.

    :raises PostgresqlError: It is not installed, or did not start.
    """
    programs = find_programs()
    user = find_unprivileged_user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="airflow-agent-tasks-postgresql-"))
    if user:
        shutil.chown(folder, user)
    guard = ["sh", "-c", GUARD, "guard", str(programs / "pg_ctl"), str(folder)]
    data = f"--pgdata={folder / 'data'}"
    options = build_process_options(folder, user)
    # In a separate session, where Ctrl-C does not reach it.
    options_of_guard = {**options, "stdin": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(guard, **options_of_guard):  # noqa: S603 - our own command
        access = ["--username=airflow", "--auth=trust"]
        text = ["--encoding=UTF8", "--locale=C"]
        run_program([programs / "initdb", data, *access, *text, "--no-sync"], options)
        port = start_server([programs / "pg_ctl", "start", data], options)
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/postgres"


def start_server(command: Sequence[Path | str], options: dict[str, Any]) -> int:
    """
    Start the server and return its port; if another process has taken the port, try once more with another.

    :param command: The command that starts it, without its settings.
    :param options: The arguments for ``subprocess``.
    :raises PostgresqlError: It did not start.
    """
    log = f"--log={options['cwd'] / 'server.log'}"
    for is_last in (False, True):
        (port,) = find_free_ports(1)
        settings = " ".join(f"-c {name}='{value}'" for name, value in {**SETTINGS, "port": port}.items())
        try:
            run_program([*command, log, "--wait", f"--options={settings}"], options)
            break
        except PostgresqlError as error:
            if is_last or ADDRESS_IN_USE not in str(error):
                raise
    return port


def create_database(server_url: str) -> str:
    """Create an empty database with a unique name, and return its SQLAlchemy URL."""
    # Imported here, so that the lab's commands print their help without a database driver.
    from sqlalchemy import create_engine, make_url, text

    name = f"airflow_{secrets.token_hex(6)}"
    # Without a transaction: PostgreSQL cannot create a database in one.
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def find_programs() -> Path:
    """
    Return the folder with the server's programs: on the PATH, or else Debian's newest version.

    :raises PostgresqlError: There is none.
    """
    versions = sorted(DEBIAN_FOLDER.glob("[0-9]*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    search_path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, versions)])
    if found := shutil.which("initdb", path=search_path):
        return Path(found).resolve().parent
    raise PostgresqlError(
        f"PostgreSQL is not installed: initdb is neither on the PATH nor under {DEBIAN_FOLDER}. "
        "On Debian or Ubuntu: apt-get install postgresql"
    )


def explain_lack() -> str | None:
    """Return what this machine lacks for a server, or None if it lacks nothing."""
    try:
        find_programs()
    except PostgresqlError as error:
        return str(error)
    return None


def find_unprivileged_user() -> str:
    """Return the user to run the server as if we are root: it refuses to run as root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED_USERS if name in names)


def build_process_options(folder: Path, user: str | None) -> dict[str, Any]:
    """Return the ``subprocess`` arguments of a program in this folder; None is the current user."""
    return {
        "cwd": folder,
        "env": build_clean_environment(),
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "user": user,
        "group": pwd.getpwnam(user).pw_gid if user else None,
        "extra_groups": [] if user else None,
    }


def run_program(command: Sequence[Path | str], options: dict[str, Any]) -> None:
    """
    Run one of the server's programs to its end; its output and the server's go into files in its folder.

    :raises PostgresqlError: It failed; the message contains the end of the output.
    """
    folder: Path = options["cwd"]
    # Into a file, not a pipe: the server keeps it open, and a pipe would not end before the server.
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        options = {**options, "stdout": log, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, **options, timeout=TIMEOUT, check=False)  # noqa: S603 - PostgreSQL's own
    if done.returncode != 0:
        logs = "".join(log.read_text(errors="replace") for log in sorted(folder.glob("*.log")))
        raise PostgresqlError(
            f"{command[0]} ended with exit status {done.returncode}. The end of its log:\n    "
            + "\n    ".join(logs.splitlines()[-25:])
        )
