"""The command ``airflow agent-tasks doctor``: checks from this machine what agent tasks need."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from threading import Thread

from airflow.providers.common.compat.sdk import redact

from airflow_agent_tasks.airflow_compat.console import print_rows
from airflow_agent_tasks.cli import (
    check_api_server,
    check_callbacks,
    check_components,
    check_connections,
    check_installation,
)
from airflow_agent_tasks.cli.finding import Finding

#: Seconds for one group of checks: a database that does not respond would take minutes.
TIMEOUT = 120.0

Check = Callable[[], Iterable[Finding]]


def run(options: argparse.Namespace) -> None:
    """Print the findings, and exit with status 1 if any check failed."""
    # Each check reports in its row; Airflow's own warnings and tracebacks would hide the table.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    findings = examine(options.connections)
    try:
        # A reader such as "head" has closed the pipe.
        with suppress(BrokenPipeError):
            print_rows([asdict(finding) for finding in findings], options.output)
            sys.stdout.flush()
    finally:
        # At once: a check that hangs would delay Airflow's own cleanup, or make it fail with a traceback.
        os._exit(1 if any(finding.verdict == "failed" for finding in findings) else 0)


def examine(conn_ids: list[str] | None) -> list[Finding]:
    """
    Return the findings of all checks.

    :param conn_ids: The connections to test; an empty list for all that can be listed, None for no tests.
    """
    checks: dict[str, Check] = {
        "versions": check_installation.check_versions,
        "configuration": check_installation.check_options,
        "Airflow internals": check_installation.check_private_parts,
        "API server": check_api_server.check_api_server,
        "callbacks": check_callbacks.check_callbacks,
        "scheduler, triggerer": check_components.check_components,
    }
    if conn_ids is not None:
        checks["connections"] = partial(check_connections.check_connections, conn_ids)
    return [_hide_secrets(finding) for name, check in checks.items() for finding in _perform(name, check)]


def _perform(name: str, check: Check) -> list[Finding]:
    """Return the findings of a check, including those from before it raised or hung."""
    found: list[Finding] = []
    thread = Thread(target=_collect, args=(name, check, found), daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    overdue = [_build_failure(name, f"no result after {TIMEOUT:g} s")] if thread.is_alive() else []
    return [*found, *overdue]


def _collect(name: str, check: Check, found: list[Finding]) -> None:
    try:
        for finding in check():
            found.append(finding)
    except BaseException as error:  # including SystemExit, which would end the thread silently
        found.append(_build_failure(name, f"could not be checked: {type(error).__name__}: {error}"))


def _build_failure(name: str, fault: str) -> Finding:
    remedy = "Check the network and the settings of this machine. If they are fine, report this as a bug."
    return Finding(name, "failed", fault, remedy)


def _hide_secrets(finding: Finding) -> Finding:
    return Finding(finding.check, finding.verdict, str(redact(finding.details)), str(redact(finding.remedy)))
