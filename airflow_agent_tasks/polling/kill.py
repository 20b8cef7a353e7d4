"""
What a kill means: whether anybody still waits for the agent task.

Airflow calls ``on_kill`` for more than a user's decision. A worker gets SIGTERM when its machine is drained,
or when Airflow's API does not answer its heartbeats; a triggerer calls ``on_kill`` for a trigger that another
triggerer took over while it was frozen. An agent task that somebody waits for, or will, must live on. So
Airflow is asked for the task instance's state first; and where it does not say, nothing is stopped that a
next try would attach to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES, aread_state
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.logger import Log
from airflow_agent_tasks.polling.shared_poller import WaitingPlace, enter_place

#: Seconds for Airflow to tell a state: a triggerer's one supervisor thread may be busy with others.
SECONDS_TO_READ_STATE = 60.0

#: asyncio itself holds its tasks weakly: what nobody awaits may vanish.
_kept: set[asyncio.Task[None]] = set()


def keep(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run something to its end, whatever happens to who awaits it."""
    task = asyncio.create_task(work)
    _kept.add(task)
    task.add_done_callback(_kept.discard)
    return task


async def stop_if_abandoned(conn_id: str, started: StartedTask, task_instance: Any, log: Log) -> None:
    """
    Stop the agent task of a deferred task that somebody ended; say in the log what was done, and why.

    After a clear the task instance is on its way to the next try, which stops the agent task itself.
    """
    name = f"agent task {started.agent_task_id}"
    # Entered first, so that the place outlives the triggers that leave it with this one.
    async with enter_place(conn_id) as place:
        try:
            state = await _aread_state_in_turn(place, task_instance)
        except Exception as error:
            log.warning("Airflow did not tell the task's state, so %s is left as it is: %r", name, error)
            return
        if state not in FINAL_STATES:
            log.info(
                "The trigger is no longer needed here, and the task is %s: %s is left as it is.", state, name
            )
            return
        try:
            task = await _stop_if_active(place, started, state)
        except AgentTaskError as error:
            log.warning("The task was marked %s, and its %s may still be running: %s", state, name, error)
        else:
            log.info("The task is %s; its agent task, in the end: %s", state, task)


async def _aread_state_in_turn(place: WaitingPlace, task_instance: Any) -> str | None:
    # One after the other, for when a DAG run with a thousand of them is ended: all would queue at the one
    # thread, those at the end for too long, and the look-up of the connection behind them.
    async with place.reading_state:
        return await asyncio.wait_for(aread_state(task_instance), SECONDS_TO_READ_STATE)


async def _stop_if_active(place: WaitingPlace, started: StartedTask, state: str) -> AgentTask:
    try:
        task = await place.ask(started.agent_task_id, started.agent_id)
    except AgentTaskError as error:
        if not error.is_transient:
            raise
    else:
        # A success with an open question is what on_awaiting_input="return" makes; where somebody marked the
        # task, the API server, which knows them apart, stops the agent task.
        is_returned = state == "success" and task.status is TaskState.AWAITING_INPUT
        if task.is_terminal or is_returned:
            return task
    return await place.stop(started.agent_task_id, started.agent_id)
