"""The orders about the slots of a connection, from workers and triggers to the API server. Data only."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from airflow_agent_tasks.airflow_compat.form_orders import Text

#: The path of this package's plugin in the API server.
PATH = "/agent-tasks/slots"
#: The limit in the orders about a connection that has none any more.
NO_LIMIT = 1_000_000
#: The operator's method with which a task goes on that has waited for a slot.
RESUME_METHOD = "take_agent_task_slot"


class _Order(Struct, tag_field="do", frozen=True):
    """
    An order about the slots of one connection.

    :param conn_id: The Airflow connection.
    :param limit: Its ``max_concurrent_tasks``, as its sender has read it: an API server may not see it.
    """

    conn_id: Text
    limit: Annotated[int, Meta(ge=1)]


class TakeSlot(_Order, tag="take slot", frozen=True):
    """
    Give a task a slot, or a place in the queue.

    :param task_instance_id: The id of the task instance whose worker sends the order.
    """

    task_instance_id: UUID


class ShareSlots(_Order, tag="share slots", frozen=True):
    """Give the free slots to those who have waited longest, and resume their tasks."""


SlotOrder = TakeSlot | ShareSlots
