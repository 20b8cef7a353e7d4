"""
Decides on a trigger's ``on_kill`` whether anything still waits for the agent task.

Airflow calls ``on_kill`` not only when a user ends a task. A worker's task gets SIGTERM when Airflow's API
does not respond to its heartbeats, and on Airflow 3.3 when its machine is drained. A triggerer calls
``on_kill`` for a trigger that another triggerer took over while this one was frozen. An agent task that
something waits for, or will wait for, must keep running. So we first get the task instance's state from
Airflow. If Airflow does not respond, we do not stop an agent task to which another try would attach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from airflow_agent_tasks.agent_task import TERMINAL_STATES, AgentTask, StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES, aread_state
from airflow_agent_tasks.documentation import STILL_RUNNING
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.stop import describe_stop
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.polling.shared_poller import SharedPoller, use_poller
from airflow_agent_tasks.polling.state_xcoms import StateXComs

#: Seconds to wait for Airflow to return a state: a triggerer's one supervisor thread may be busy.
STATE_TIMEOUT = 60.0

#: asyncio itself keeps only weak references to its tasks: one that nothing awaits may vanish.
_background: set[asyncio.Task[None]] = set()


def run_in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run a coroutine to its end, even if its caller is cancelled."""
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    return task


async def stop_if_orphaned(
    conn_id: str,
    started: StartedTask,
    task_instance: Any,
    xcoms: StateXComs | None,
    log: Log,
    *,
    is_called_back: bool = False,
) -> None:
    """
    Stop the agent task of a deferred task that someone has ended in Airflow, and log the outcome and the
    reason.

    After a clear, the next try of the task instance stops the agent task itself.

    :param conn_id: The Airflow connection.
    :param started: The agent task.
    :param task_instance: The deferred task instance, as the triggerer knows it.
    :param xcoms: Pushes its final status to XCom; None to push nothing.
    :param log: The log for the outcome.
    :param is_called_back: True if a callback may have woken the task, which may have ended by itself since.
    """
    name = f"agent task {started.agent_task_id}"
    # Entered first, so that the poller outlives the triggers that are killed together with this one.
    async with use_poller(conn_id) as poller:
        try:
            state = await _aread_state(poller, task_instance)
        except Exception as error:
            log.warning("Could not read the task's state from Airflow, so %s keeps running: %r", name, error)
            return
        if state not in FINAL_STATES:
            if not is_called_back:  # a callback that wakes the task cancels the trigger
                log.info("This trigger was cancelled, but the task is %s, so %s keeps running.", state, name)
            return
        if is_called_back and xcoms and (status := await xcoms.read_status()) in TERMINAL_STATES:
            log.info("This trigger was cancelled, because its task was woken. The %s is %s.", name, status)
            return
        try:
            task, outcome = await _stop_if_active(poller, started, state)
        except AgentTaskError as error:
            text = "Task was marked %s, but its %s may still be running: %s See %s"
            log.warning(text, state, name, error, STILL_RUNNING)
        else:
            log.info("Task was marked %s, and its %s %s.", state, name, outcome)
            if xcoms:
                await xcoms.push_end(task)


async def _aread_state(poller: SharedPoller, task_instance: Any) -> str | None:
    # One at a time. If someone ends a DAG run with a thousand triggers, all would queue for the only
    # supervisor thread, the last ones for too long, and so would the lookup of the connection.
    async with poller.state_lock:
        return await asyncio.wait_for(aread_state(task_instance), STATE_TIMEOUT)


async def _stop_if_active(poller: SharedPoller, started: StartedTask, state: str) -> tuple[AgentTask, str]:
    """Stop the agent task if it is active; return it, and the outcome as the end of a sentence."""
    try:
        seen = task = await poller.get_task(started.agent_task_id, started.agent_id)
    except AgentTaskError as error:
        if not error.is_transient:
            raise
        seen = None
    else:
        # on_awaiting_input="return" also leads to a success with an open question. If a user marked the task,
        # the API server, which can distinguish the two, stops the agent task.
        is_returned = state == "success" and task.status is TaskState.AWAITING_INPUT
        if task.is_terminal or is_returned:
            return task, f"{'had already ended' if task.is_terminal else 'was not changed'} ({task.status})"
    task = await poller.stop_task(started.agent_task_id, started.agent_id)
    if not (seen and seen.is_stopped):  # the API server may have paused it already, and counted that
        poller.metrics.count_stop(task, seen)
    return task, describe_stop(task)
