"""Waits for one of the connection's slots before an agent task is started: ``max_concurrent_tasks``."""

from __future__ import annotations

from typing import NoReturn

from airflow_agent_tasks.lifecycle.commands import Command, Flow, info
from airflow_agent_tasks.lifecycle.execution import Execution

#: Seconds between two moments at which a triggerer has the free slots shared.
SLOT_POLL = 2.0


class TakeSlot(Command[bool], frozen=True):
    """
    Take a slot, and return True; return False if all are taken, or others have waited longer.

    The slot is free again when the task ends. A task that has one already keeps it. True without a limit.
    """


class DeferForSlot(Command[NoReturn], frozen=True):
    """Leave the worker until a slot is free; never returns."""


def wait_for_slot(execution: Execution) -> Flow[None]:
    """
    Return once the execution may start an agent task; the first to come is the first to be served.

    It never waits on its worker, even if the agent task will be awaited there: all workers could be full of
    tasks that wait for a slot, and those with one, such as after an answer, could not go on.
    """
    if not (yield from TakeSlot()):
        yield from info(
            "Waiting to start: max_concurrent_tasks of connection %r is reached.", execution.settings.conn_id
        )
        yield from DeferForSlot()
