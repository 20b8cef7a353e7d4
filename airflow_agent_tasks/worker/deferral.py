"""Builds what the operator defers with: the trigger, the resume and the backstop."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from airflow_agent_tasks.airflow_compat.resume_timing import build_deferral_timeout
from airflow_agent_tasks.lifecycle.commands import Defer
from airflow_agent_tasks.lifecycle.execution import TaskSettings


def build_deferral(command: Defer, settings: TaskSettings, *, noted_status: str | None) -> dict[str, Any]:
    """
    Return the arguments of Airflow's ``defer``.

    :param command: The command to perform.
    :param settings: The settings of the DAG author.
    :param noted_status: The status in XCom, if that has the id too; None if unknown.
    """
    # Imported here: every DAG file would pay for the trigger and its event loop.
    from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger

    started_at, working_since = command.started.started_at, command.working_since
    trigger = AgentTaskTrigger(
        conn_id=settings.conn_id,
        # The trigger counts its intervals from this time.
        **replace(command.started, started_at=working_since).to_kwargs(),
        # Only after a reply: triggerers with an earlier version do not know it.
        submitted_at=None if started_at == working_since else started_at,
        poll_interval=settings.poll_interval,
        is_called_back=command.is_called_back,
        not_before=command.not_before,
        deadline=command.deadline,
        max_outage=settings.max_outage,
        budget=settings.budget,
        notes_progress=settings.pushes_xcoms and (noted_status or True),
        on_kill_policy=settings.on_kill_policy,
    )
    return {
        "trigger": trigger,
        "method_name": "execute_complete",
        # Otherwise the resume need not read the questions from the state store.
        "kwargs": {"is_asked": True} if command.has_questions else None,
        "timeout": (
            None if command.deadline is None else build_deferral_timeout(command.deadline, now=time.time())
        ),
    }
