"""The XCom ``status`` moves with the agent, and the pace of the checks starts anew after each reply."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.wait_policy import SHORTEST_WAIT
from airflow_agent_tasks.services.base import Dialect
from tests.service_samples import LIGHTCONE, SHINZO
from tests.simulated.script import Script
from tests.simulated.world import World

BOTH_SERVICES = pytest.mark.parametrize("service", [LIGHTCONE, SHINZO], ids=lambda service: service.service)
BOTH_MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])


def watch(world: World) -> list[tuple[str, str]]:
    """Live, and return at each status check what was seen and what is in XCom after it."""
    seen: list[tuple[str, str]] = []

    def note(now: World) -> None:
        last = now.execution.last_task
        if isinstance(now.journal[-1], cmd.PushTask) and last:
            seen.append((last.status.value, now.xcoms["status"]))

    world.on_command = note
    world.live()
    return seen


@BOTH_SERVICES
@BOTH_MODES
@pytest.mark.parametrize("has_reply", [False, True], ids=["asked", "answered"])
@pytest.mark.parametrize("end", [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED], ids=str)
def test_the_status_in_xcom_is_what_was_seen_last(
    service: Dialect, deferrable: bool, has_reply: bool, end: TaskState
) -> None:
    settings = {"deferrable": deferrable, "has_reply": has_reply}
    script = Script(service, settings, questions=("One?", "Two?"), ends=(end,), exit_code=None, retries=0)
    world = World(script)
    seen = watch(world)
    assert all(state == pushed for state, pushed in seen)
    states = [state for state, before in zip(seen, [None, *seen], strict=False) if state != before]
    assert [state for state, _ in states] == [
        *("running", "awaiting_input", "running", "awaiting_input", "running"),
        end.value,
    ]


@BOTH_SERVICES
@BOTH_MODES
@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"timeout": 20.0}, ("paused", "cancelled")),
        ({"execution_timeout": 20.0}, ("paused", "cancelled")),
        ({"timeout": 20.0, "on_timeout": "leave"}, ("running", "running")),
    ],
    ids=str,
)
def test_whoever_stops_the_agent_writes_its_end(
    service: Dialect, deferrable: bool, settings: dict[str, Any], status: tuple[str, str]
) -> None:
    world = World(Script(service, {**settings, "deferrable": deferrable}, work=1e6, retries=0))
    world.live()
    assert world.xcoms["status"] == status[service is SHINZO]
    assert world.error


@BOTH_SERVICES
@BOTH_MODES
@pytest.mark.parametrize("hours", [0.1, 1.0, 100.0])
def test_the_interval_starts_anew_after_each_reply(
    service: Dialect, deferrable: bool, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulated.form.ANSWERED_AFTER", hours * 3600)
    # Nobody comes to look meanwhile, so that the pace is that of the reply alone.
    settings = {"deferrable": deferrable, "input_recheck_interval": 1e9}
    world = World(Script(service, settings, questions=("One?", "Two?", "Three?"), work=8.0))
    waits: list[float] = []

    def note(now: World) -> None:
        command = now.journal[-1]
        if isinstance(command, cmd.Sleep) and now.service.tasks["tsk_1"].heard:
            waits.append(command.seconds)

    world.on_command = note
    world.live()
    for command in world.journal:
        if isinstance(command, cmd.Defer) and command.working_since > command.started.started_at:
            waits.append(command.not_before - command.working_since)
    assert world.state == "success"
    assert len(waits) >= 3
    # Two checks and a little: by the age of the agent task it would be 30 seconds.
    assert max(waits) < 4 * SHORTEST_WAIT
