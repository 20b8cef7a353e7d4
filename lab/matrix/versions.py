"""The versions to check: those with pins in ``constraints/``, and the Pythons of ``pyproject.toml``."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version

from lab.paths import ROOT

CONSTRAINTS = ROOT / "constraints"
#: The Python with which every ring runs: the oldest that every supported Airflow can be installed on.
MAIN_PYTHON = "3.11"
#: The oldest Python of a release line of Airflow, if it is newer than our oldest one.
OLDEST_PYTHONS = {"3.4": "3.11"}


def list_airflow_versions() -> list[str]:
    """Return the versions of Airflow that have pins, the oldest first."""
    names = [path.stem.removeprefix("airflow-") for path in CONSTRAINTS.glob("airflow-*.txt")]
    return sorted(names, key=Version)


def read_pinned_airflow() -> str:
    """Return the version of Airflow in ``constraints.txt``, which is the one for development."""
    (version,) = re.findall(r"^apache-airflow==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return str(version)


def list_pythons() -> list[str]:
    """Return the versions of Python in the classifiers, such as "3.12", the oldest first."""
    found = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    return sorted(found, key=Version)


def find_constraints(airflow: str) -> Path:
    """Return the file with the pins for a version of Airflow."""
    return CONSTRAINTS / f"airflow-{airflow}.txt"


def release_line(version: str) -> str:
    """Return "3.4" for "3.4.0b2"."""
    return "{}.{}".format(*Version(version).release)
