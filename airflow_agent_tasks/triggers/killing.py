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

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.protocol.task import AgentTask, TaskState
from airflow_agent_tasks.triggers.place import WaitingPlace, enter_place
from airflow_agent_tasks.triggers.waiting import Log, StartedTask

#: States of a task instance that nobody leaves but by a clear: it was marked, or its DAG run timed out.
FINAL_STATES = frozenset({"failed", "success", "skipped", "removed"})
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


def stop_unless_over(hook: AgentTaskHook, task_id: str, agent_id: str | None) -> AgentTask:
    """Stop an agent task, unless it has ended, and return it."""
    try:
        task = hook.get_task(task_id, agent_id)
    except AgentTaskError as error:
        if not error.is_transient:
            raise
    else:
        if task.is_terminal:
            return task
    return hook.stop_task(task_id, agent_id)


def has_next_try(task_instance: Any) -> bool:
    """Tell whether Airflow will try again after a failure."""
    return bool(task_instance.try_number <= task_instance.max_tries)


def read_state(task_instance: Any) -> str | None:
    """Ask Airflow for the task instance's state, from a worker; raises what Airflow's client raises."""
    states = task_instance.get_task_states(**_build_query(task_instance))
    return _pick(states, task_instance)


async def aread_state(task_instance: Any) -> str | None:
    """Ask Airflow for the task instance's state, from a trigger; raises what Airflow's client raises."""
    # Imported here: every DAG file would pay for it, and Airflow sets the channel only when the process runs.
    from airflow.sdk.execution_time.comms import GetTaskStates
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    reply: Any = await SUPERVISOR_COMMS.asend(GetTaskStates(**_build_query(task_instance)))
    return _pick(reply.task_states, task_instance)


def _build_query(task_instance: Any) -> dict[str, Any]:
    return {
        "dag_id": task_instance.dag_id,
        "run_ids": [task_instance.run_id],
        "task_ids": [task_instance.task_id],
        "map_index": task_instance.map_index,
    }


def _pick(states: dict[str, Any], task_instance: Any) -> str | None:
    label = task_instance.task_id
    if task_instance.map_index is not None and task_instance.map_index >= 0:
        label = f"{label}_{task_instance.map_index}"
    state = states.get(task_instance.run_id, {}).get(label)
    return None if state is None else str(getattr(state, "value", state))
