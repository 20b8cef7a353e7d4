"""
Imports what every execution needs in the process that forks for each of them, once instead of each time.

Only imports: a thread, a socket or a connection that is open when the process forks would be shared by all of
them. Every Airflow command imports this module, so it imports nothing of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from typing import Any

log = logging.getLogger(__name__)

#: What DAG files and the plugin import, and what executions import only when they need it.
MODULES = (
    "airflow_agent_tasks.plugin",
    "airflow_agent_tasks.operators.lightcone",
    "airflow_agent_tasks.operators.shinzo",
    "airflow_agent_tasks.decorators.agent_task",
    "airflow_agent_tasks.sensors.agent_task",
    "airflow_agent_tasks.triggers.agent_task",
    "airflow_agent_tasks.triggers.slot",
    "airflow_agent_tasks.client.sync_client",
    "airflow_agent_tasks.callbacks.token",
    "airflow_agent_tasks.airflow_compat.worker_request_signature",
)


def preload(modules: Sequence[str] = MODULES, **_signal: Any) -> None:
    """Import these modules; one that cannot be imported is only logged: the task that needs it says more."""
    for name in modules:
        try:
            import_module(name)
        except Exception as error:  # would end the worker or the scheduler
            log.warning("Could not import %s before the tasks that need it: %r", name, error)


def preload_in_celery_worker(arguments: Sequence[str]) -> None:
    """
    If this is the command of a Celery worker, import the modules before the worker forks.

    :param arguments: The command and its arguments, as in ``sys.argv``.
    """
    if list(arguments[1:3]) != ["celery", "worker"]:
        return
    try:
        signal = import_module("celery.signals").import_modules
    except ImportError:  # the command fails too, and says why
        return
    signal.connect(preload)
