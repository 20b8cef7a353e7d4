"""Checks this installation: the versions, and the Airflow internals that this package uses."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version

from airflow_agent_tasks.airflow_compat.startup_check import (
    AIRFLOW_VERSION,
    PACKAGE,
    find_version_problem,
    list_misfits,
)
from airflow_agent_tasks.cli.finding import Finding
from airflow_agent_tasks.configuration.options import OPTIONS, SECTION
from airflow_agent_tasks.configuration.reader import find_fault, read_text

#: The remedy if package and Airflow do not fit.
FIT_REMEDY = f"Upgrade {PACKAGE}, or install an Airflow version that it was tested with."


def check_versions() -> Iterator[Finding]:
    """Yield whether this package was tested with these versions of Airflow and Python."""
    python = platform.python_version()
    details = f"Airflow {AIRFLOW_VERSION}, {PACKAGE} {version(PACKAGE)}, Python {python}"
    found = (find_version_problem("apache-airflow", AIRFLOW_VERSION), find_version_problem("python", python))
    if problems := [problem for problem in found if problem]:
        yield Finding("versions", "warning", f"{'. '.join(problems)}.", FIT_REMEDY)
    else:
        yield Finding("versions", "ok", details)


def check_options() -> Iterator[Finding]:
    """Yield whether the options of this machine's configuration can be used."""
    faults = [
        find_fault(option, text)
        for option in OPTIONS
        if option.kind != "string" and (text := read_text(option))
    ]
    for fault in filter(None, faults):
        yield Finding("configuration", "failed", fault, "Correct it on all components, or remove it.")
    if not any(faults):
        yield Finding("configuration", "ok", f"the numbers in [{SECTION}] can be used")


def check_private_parts() -> Iterator[Finding]:
    """Yield the Airflow internals that this package needs and that the installed Airflow lacks."""
    misfits = list_misfits()
    for misfit in misfits:
        details = f"{misfit.fault}. So {misfit.consequence}."
        yield Finding("Airflow internals", "failed", details, FIT_REMEDY)
    if not misfits:
        yield Finding("Airflow internals", "ok", "all parts that this package uses exist")
