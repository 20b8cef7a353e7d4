"""
The endpoint in the API server that gives away the slots of connections with ``max_concurrent_tasks``.

A worker asks for one before it starts an agent task. While tasks wait, each triggerer asks every few seconds
that free slots be shared, and so does a thread of this server; the tasks that get one resume from here, as
after a callback.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.slot_orders import ShareSlots, SlotOrder
from airflow_agent_tasks.lifecycle.trigger_event import build_slot_event
from airflow_agent_tasks.plugin.detached_agents import DetachedAgents
from airflow_agent_tasks.plugin.signed_orders import take_orders
from airflow_agent_tasks.plugin.slot_clock import SlotClock

log = logging.getLogger(__name__)

#: Seconds to wait for other orders about the same connection in this process; a worker tries again.
MAX_WAIT = 5.0
#: Number of orders at a time. They wait for each other, and the server's other threads serve all workers.
THREADS = 8

_detached = DetachedAgents()
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
#: Seconds for which the limit in an order holds for this server's own rounds: another server may have got
#: orders with a lower one since.
LIMIT_AGE = 60.0
#: The limit in the last order about each connection, and when that came; 0 if a task was resumed to send one.
_limits: dict[str, tuple[int, float]] = {}


def _take(order: SlotOrder) -> JSONResponse:
    """Carry out an order of a worker or a trigger, which has just read the connection."""
    _limits[order.conn_id] = order.limit, time.monotonic()
    return _carry_out(order)


def _carry_out(order: SlotOrder) -> JSONResponse:
    """Carry out an order: 200 and whether its task has a slot, 409 if its task no longer runs."""
    # Imported here: if it no longer fits Airflow, the health endpoint must still be able to report that.
    from airflow_agent_tasks.airflow_compat.slot_rows import carry_out

    lock = _locks[order.conn_id]
    # Here rather than in the database, where each would occupy a connection while it waits.
    if not lock.acquire(timeout=MAX_WAIT):
        return JSONResponse({"detail": "Too many orders about this connection at once."}, 503)
    try:
        shared = carry_out(order, _detached.is_active)
    finally:
        lock.release()
    if shared is None:
        return JSONResponse({"detail": "This task is no longer running."}, 409)
    if not shared.has_slot:
        clock.start()
    _resume_all(shared.resumable)
    return JSONResponse({"has_slot": shared.has_slot})


def _make_round() -> bool:
    """Share the slots of all connections for which tasks wait; return whether there are any."""
    from airflow_agent_tasks.airflow_compat.slot_rows import list_waiting

    waiting = list_waiting()
    for conn_id, first in waiting.items():
        limit, read_at = _limits.get(conn_id, (0, -math.inf))
        if time.monotonic() - read_at >= LIMIT_AGE:
            # Its worker can read the connection, and then sends the limit, maybe to another server.
            _limits[conn_id] = 0, time.monotonic()
            _resume_all([first])
        elif limit:
            _carry_out(ShareSlots(conn_id, limit))
    return bool(waiting)


#: Makes a round every few seconds while tasks wait.
clock = SlotClock(_make_round)


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


share_slots = take_orders(SlotOrder, _take, threads=THREADS)
