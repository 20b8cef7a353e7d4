"""
Reports at the start of the scheduler, the triggerer and the API server what no longer fits Airflow.

Each of them uses Airflow's private parts only when a user ends a task or answers a question. Without this
check, a part that Airflow has moved would show then, and as an agent task that runs on.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module

from airflow import __version__ as airflow_version

log = logging.getLogger(__name__)

#: Modules of this room, and what happens without them.
CONSEQUENCES = {
    "ended_tasks": "agent tasks run on when their Airflow tasks are marked while no worker has them",
    "form_rows": "forms under Required Actions cannot show each question's own text",
    "early_answer_delay": "an answer within seconds of its question may fail the task",
    "supervisor": "agent tasks run on when their deferred Airflow tasks are marked",
}


@cache
def check_private_parts() -> None:
    """Log an error for each module of this room that cannot be imported; once in a process."""
    for module, consequence in CONSEQUENCES.items():
        try:
            import_module(f"{__package__}.{module}")
        except (ImportError, AttributeError) as error:
            report(f"{__package__}.{module} cannot be imported ({error})", consequence)


def report(fault: str, consequence: str) -> None:
    """Log an error: what does not fit the Airflow that runs, and what happens therefore."""
    log.error("This package does not fit Airflow %s: %s. So %s.", airflow_version, fault, consequence)
