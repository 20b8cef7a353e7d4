"""The calls of a simulated service to Airflow, and when they wake the task that waits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_agent_tasks.lifecycle.callback import Callback, MakeCallback
from airflow_agent_tasks.lifecycle.submission_record import Submission
from tests.simulated.script import Script
from tests.simulated.service import SimulatedService, SimulatedTask

#: Seconds for which a call waits for a worker that still runs.
MAX_HOLD = 60.0
#: Seconds from a deferral or parking until the task may resume.
RESUME_GUARD = 6.0
#: Seconds from each change of an agent task to the calls about it.
DELAYS: Mapping[str, tuple[float, ...]] = {
    "once": (0.3,),
    "twice": (0.3, 8.0),
    "early": (-5.0, 0.3),
    "late": (90.0,),
    "never": (),
    "out of reach": (),
}
URL = "https://airflow.example/agent-tasks/callback/"


def read_start_fields(script: Script) -> dict[str, Any]:
    """Return the start fields of the DAG author."""
    callback = {"callback_mode": "webhook"} if script.calls else {}
    return {script.service.instruction_field: "Work.", **callback}


def make_callback(script: Script, command: MakeCallback) -> Callback:
    """Return a URL that names the submission."""
    is_out_of_reach = script.calls == "out of reach"
    return Callback(f"{URL}{command.idempotency_key}", f"{URL}…", is_out_of_reach)


def find_wake_up(
    service: SimulatedService, record: Submission | None, *, began_at: float, left_at: float
) -> float:
    """
    Return when the service wakes the waiting task; infinity if it never does.

    :param record: The record that the task has in the store.
    :param began_at: When the task's last execution began: it has seen what changed before.
    :param left_at: When the task left its worker.
    """
    if record is None:
        return math.inf
    tasks = [one for one in service.tasks.values() if one.callback_url == f"{URL}{record.idempotency_key}"]
    moments = (moment for task in tasks for moment in _list_calls(service.script, task))
    awaited = [moment for moment in moments if moment > began_at and moment + MAX_HOLD >= left_at]
    return max(min(awaited), left_at + RESUME_GUARD) if awaited else math.inf


def _list_calls(script: Script, task: SimulatedTask) -> Iterator[float]:
    # A stopped agent task changes no more, and what stopped it knows.
    for begun_at in task.list_beginnings() if task.stopped is None else ():
        yield from (begun_at + task.work + delay for delay in DELAYS[script.calls])
