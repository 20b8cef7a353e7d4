"""
The endpoint in the API server that gives away the slots of connections with ``max_concurrent_tasks``.

A worker asks for one before it starts an agent task. While tasks wait, each triggerer asks every few seconds
that free slots be shared; the tasks that get one resume from here, as after a callback.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.slot_orders import SlotOrder
from airflow_agent_tasks.lifecycle.trigger_event import build_slot_event
from airflow_agent_tasks.plugin.detached_agents import DetachedAgents
from airflow_agent_tasks.plugin.signed_orders import take_orders

log = logging.getLogger(__name__)

#: Seconds to wait for other orders about the same connection in this process; a worker tries again.
MAX_WAIT = 5.0

_detached = DetachedAgents()
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def _carry_out(order: SlotOrder) -> JSONResponse:
    """Carry out an order: 200 and whether its task has a slot, 409 if its task no longer runs."""
    lock = _locks[order.conn_id]
    # Here rather than in the database, where each would occupy a connection while it waits.
    if not lock.acquire(timeout=MAX_WAIT):
        return JSONResponse({"detail": "Too many orders about this connection at once."}, 503)
    try:
        return _share(order)
    finally:
        lock.release()


def _share(order: SlotOrder) -> JSONResponse:
    # Imported here: if it no longer fits Airflow, the health endpoint must still be able to report that.
    from airflow_agent_tasks.airflow_compat.slot_rows import carry_out

    shared = carry_out(order, _detached.is_active)
    if shared is None:
        return JSONResponse({"detail": "This task is no longer running."}, 409)
    _resume_all(shared.resumable)
    return JSONResponse({"has_slot": shared.has_slot})


def _resume_all(task_instance_ids: Iterable[UUID]) -> None:
    from airflow_agent_tasks.airflow_compat.resume_delay import measure_resume_delay
    from airflow_agent_tasks.airflow_compat.waiting_tasks import find_task, resume

    for task_instance_id in task_instance_ids:
        try:
            row = find_task(task_instance_id)
            # Too early for one that just left its worker: the next order finds it again.
            if row and row.state == "deferred" and measure_resume_delay(row) <= 0:
                resume(row, build_slot_event)
        except Exception as error:
            # It keeps its slot. Only the type: a database quotes its parameters in the message.
            log.warning("Could not resume a task that has got a slot: %s", type(error).__name__)


share_slots = take_orders(SlotOrder, _carry_out)
