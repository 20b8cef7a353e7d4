"""Waits for one of the connection's slots before an agent task is started: ``max_concurrent_tasks``."""

from __future__ import annotations

from typing import NoReturn

from airflow_agent_tasks.lifecycle.commands import Command, Flow, Sleep, info
from airflow_agent_tasks.lifecycle.execution import Execution

#: Seconds between two attempts to get a slot.
SLOT_POLL = 2.0
#: How many times as long a worker waits that holds its own process while it waits.
PATIENCE = 5.0


class TakeSlot(Command[bool], frozen=True):
    """
    Take a slot, and return True; return False if all are taken, or others have waited longer.

    The slot is free again when the task ends. A task that has one already keeps it. True without a limit.

    :param is_repeated: True if this execution has asked before, so that the limit may have changed.
    """

    is_repeated: bool = False


class DeferForSlot(Command[NoReturn], frozen=True):
    """Leave the worker until a slot is free; never returns."""


def wait_for_slot(execution: Execution) -> Flow[None]:
    """Return once the execution may start an agent task; the first to come is the first to be served."""
    has_slot = yield from TakeSlot()
    if not has_slot:
        yield from info(
            "Waiting to start: max_concurrent_tasks of connection %r is reached.", execution.settings.conn_id
        )
    while not has_slot:
        if execution.settings.deferrable:
            yield from DeferForSlot()
        yield from Sleep(SLOT_POLL * PATIENCE)
        has_slot = yield from TakeSlot(is_repeated=True)
