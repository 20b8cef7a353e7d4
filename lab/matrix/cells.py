"""The cells of the matrix, and the reasons for which some are not run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.version import Version

from lab.matrix.rings import RINGS
from lab.matrix.versions import (
    MAIN_PYTHON,
    OLDEST_PYTHONS,
    list_airflow_versions,
    read_pinned_airflow,
    release_line,
)

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
DATABASES = (SQLITE, POSTGRESQL)


@dataclass(frozen=True)
class Cell:
    """
    One ring of tests on one combination of versions.

    :param airflow: The version of Airflow, such as "3.4.0b2".
    :param python: The version of Python, such as "3.12".
    :param database: One of ``DATABASES``.
    :param ring: One of ``RINGS``.
    """

    airflow: str
    python: str
    database: str
    ring: str

    def __str__(self) -> str:
        return f"Airflow {self.airflow}, Python {self.python}, {self.database}, {self.ring}"


def explain_skip(cell: Cell) -> str | None:
    """Return why the matrix leaves this cell out, or None if it runs it."""
    return next((reason for rule in RULES if (reason := rule(cell))), None)


def _need_newer_python(cell: Cell) -> str | None:
    line = release_line(cell.airflow)
    oldest = OLDEST_PYTHONS.get(line)
    if oldest is None or Version(cell.python) >= Version(oldest):
        return None
    return f"Airflow {line} needs Python {oldest} or newer"


def _need_no_database(cell: Cell) -> str | None:
    if cell.database == SQLITE or RINGS[cell.ring].has_database:
        return None
    return "its tests use no database"


def _run_on_main_python(cell: Cell) -> str | None:
    if cell.python == MAIN_PYTHON:
        return None
    if cell.database == POSTGRESQL:
        return f"PostgreSQL: Python {MAIN_PYTHON} only"
    return f"Python {MAIN_PYTHON} only" if RINGS[cell.ring].has_processes else None


def _run_on_main_airflow(cell: Cell) -> str | None:
    versions = (read_pinned_airflow(), list_airflow_versions()[-1])
    if cell.airflow in versions:
        return None
    named = " and ".join(dict.fromkeys(versions))
    if cell.database == POSTGRESQL:
        return f"PostgreSQL: Airflow {named} only"
    return None if cell.python == MAIN_PYTHON else f"Pythons but {MAIN_PYTHON}: Airflow {named} only"


#: Checked in this order; the first reason counts.
RULES: tuple[Callable[[Cell], str | None], ...] = (
    _need_newer_python,
    _need_no_database,
    _run_on_main_airflow,
    _run_on_main_python,
)
