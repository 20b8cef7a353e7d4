"""Defers a task to one of this package's triggers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from airflow_agent_tasks.airflow_compat.resume_timing import build_deferral_timeout
from airflow_agent_tasks.airflow_compat.slot_orders import RESUME_METHOD
from airflow_agent_tasks.lifecycle.commands import Defer
from airflow_agent_tasks.lifecycle.execution import TaskSettings

# The triggers are imported in functions: every DAG file would pay for them and their event loop.


def defer_to_trigger(
    defer: Callable[..., None], command: Defer, settings: TaskSettings, *, noted_status: str | None
) -> NoReturn:
    """
    Leave the worker and wait for an agent task in the triggerer.

    :param defer: The operator's ``defer``.
    :param command: The deferral.
    :param settings: The settings of the DAG author.
    :param noted_status: The status in XCom, if that has the id too; None if unknown.
    """
    from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger

    deadline = command.deadline
    started_at, working_since = command.started.started_at, command.working_since
    defer(
        trigger=AgentTaskTrigger(
            conn_id=settings.conn_id,
            # The trigger counts its intervals from this time.
            **replace(command.started, started_at=working_since).to_kwargs(),
            # Only after a reply: triggerers with an earlier version do not know it.
            submitted_at=None if started_at == working_since else started_at,
            poll_interval=settings.poll_interval,
            is_called_back=command.is_called_back,
            not_before=command.not_before,
            deadline=deadline,
            max_outage=settings.max_outage,
            budget=settings.budget,
            notes_progress=settings.pushes_xcoms and (noted_status or True),
            on_kill_policy=settings.on_kill_policy,
        ),
        method_name="execute_complete",
        # Otherwise the resume need not read the questions from the state store.
        kwargs={"is_asked": True} if command.has_questions else None,
        timeout=None if deadline is None else build_deferral_timeout(deadline, now=time.time()),
    )
    raise AssertionError("defer() does not return")


def defer_for_slot(defer: Callable[..., None], conn_id: str) -> NoReturn:
    """
    Leave the worker until the task has a slot of its connection.

    :param defer: The operator's ``defer``.
    :param conn_id: The Airflow connection.
    """
    from airflow_agent_tasks.triggers.slot import AgentTaskSlotTrigger

    defer(trigger=AgentTaskSlotTrigger(conn_id=conn_id), method_name=RESUME_METHOD)
    raise AssertionError("defer() does not return")
