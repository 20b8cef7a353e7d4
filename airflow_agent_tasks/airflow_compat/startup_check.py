"""
Reports mismatches with Airflow internals when a scheduler, triggerer or API server starts, and in ``doctor``.

This package uses Airflow's private APIs only when a user ends a task or answers a question. Without this
check, a part that Airflow has moved would be noticed only then, as an agent task that keeps running.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import metadata, requires
from typing import Any

from airflow import __version__

from airflow_agent_tasks.airflow_compat.requirement import Part
from airflow_agent_tasks.airflow_compat.requirements import REQUIREMENTS
from airflow_agent_tasks.documentation import link

log = logging.getLogger(__name__)

PACKAGE = "airflow-agent-tasks"
AIRFLOW_VERSION = __version__


@dataclass(frozen=True)
class Misfit:
    """
    A part of Airflow that does not fit this package.

    :param fault: The fault, as in "airflow.models.hitl:HITLDetail.subject is missing".
    :param consequence: The consequence for users.
    """

    fault: str
    consequence: str


@cache
def check_private_parts() -> None:
    """Log a line for each part of Airflow that does not fit, once per process; never raises."""
    try:
        for misfit in list_misfits():
            report(misfit.fault, misfit.consequence)
        if problem := find_version_problem("apache-airflow", AIRFLOW_VERSION):
            log.warning("%s.", problem)
    except Exception as error:  # would end the server
        log.warning("Could not check whether %s fits Airflow %s: %r", PACKAGE, AIRFLOW_VERSION, error)


def report(fault: str, consequence: str) -> None:
    """Log the part that does not fit the running Airflow, and the consequence, as an error."""
    page = link("how-to/check-a-deployment#what-the-servers-check-themselves")
    log.error(
        "%s does not fit Airflow %s: %s. So %s. See %s", PACKAGE, AIRFLOW_VERSION, fault, consequence, page
    )


def list_misfits() -> list[Misfit]:
    """Return the parts that do not fit, each once, in the order of the table."""
    found: dict[str, Misfit] = {}
    for requirement in (one for one in REQUIREMENTS if one.is_needed):
        faults = [fault for part in requirement.parts for fault in _try_part(part)]
        for fault in faults or _try_module(requirement.module):
            found.setdefault(fault, Misfit(fault, requirement.consequence))
    return list(found.values())


def find_version_problem(distribution: str, version: str) -> str | None:
    """
    Return a sentence about a version outside the range of this package's metadata, or None if it is inside.

    :param distribution: A dependency of this package, or ``python``.
    :param version: The running version.
    """
    # Imported here: only this function needs it, and every process that checks imports this module.
    from packaging.requirements import Requirement
    from packaging.version import Version

    declared = [Requirement(line) for line in requires(PACKAGE) or ()]
    declared.append(Requirement(f"python{metadata(PACKAGE)['Requires-Python']}"))
    tried = next(one.specifier for one in declared if one.name == distribution and not one.marker)
    if tried.contains(version, prereleases=True):
        return None
    ends = [Version(one.version).release for one in tried if one.operator in ("<", "<=")]
    title = "Python" if distribution == "python" else "Airflow"
    relation = (
        "newer than any" if any(Version(version).release >= end for end in ends) else "older than those"
    )
    return f"{title} {version} is {relation} that {PACKAGE} was tested with ({tried})"


def _try_part(part: Part) -> Iterator[str]:
    """Yield the faults of a part."""
    module, _, name = part.name.partition(":")
    try:
        found: Any = import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
        for names in part.attributes.split():
            if not any(_has_attribute(found, one) for one in names.split("|")):
                yield _describe(f"{part.name}.", names, "is missing")
        accepted = inspect.signature(found).parameters if part.parameters else {}
        accepts_all = any(one.kind is one.VAR_KEYWORD for one in accepted.values())
        for names in part.parameters.split():
            if not accepts_all and not accepted.keys() & set(names.split("|")):
                yield _describe("", names, f"is not accepted by {part.name}")
    except (ImportError, AttributeError) as error:
        yield f"{part.name} is missing ({error})"
    except Exception as error:  # importing a module may raise anything
        yield f"{part.name} cannot be checked ({error!r})"


def _has_attribute(found: Any, name: str) -> bool:
    # A module's variable may be declared long before it is set.
    return hasattr(found, name) or name in getattr(found, "__annotations__", ())


def _describe(owner: str, names: str, fault: str) -> str:
    return f"{owner}{names.replace('|', ' or ')} {fault}"


def _try_module(module: str) -> Iterator[str]:
    """Yield the faults of a module of this folder whose parts all exist."""
    try:
        # The table may lack something that the module needs when it is imported.
        found = import_module(f"{__package__}.{module}")
    except Exception as error:
        yield f"{__package__}.{module} cannot be imported ({error})"
        return
    try:
        # Names do not show everything: a module may have a test of its own.
        fault = found.find_fault() if hasattr(found, "find_fault") else None
    except Exception as error:
        fault = f"{__package__}.{module} does not work ({error!r})"
    if fault:
        yield fault
