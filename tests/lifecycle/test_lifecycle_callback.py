"""What the lifecycle does for a task that its service calls back, one event at a time."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import AgentTaskConfigurationError, AgentTaskError
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.callback import (
    AFTER_DEADLINE,
    WITHOUT_DEADLINE,
    MakeCallback,
    relies_on_callback,
)
from airflow_agent_tasks.lifecycle.run import resume_after_callback, resume_with_answer, run
from airflow_agent_tasks.lifecycle.submission_record import build_idempotency_key
from airflow_agent_tasks.lifecycle.trigger_event import build_callback_event
from airflow_agent_tasks.services.base import Capability
from airflow_agent_tasks.services.shinzo import ShinzoDialect
from tests.service_samples import LIGHTCONE, SHINZO
from tests.simulated.away import DeferredError, ParkedError, WorkerLostError
from tests.simulated.callbacks import URL
from tests.simulated.script import CLEAR_AFTER_THE_END, Failure, Interruption, Script
from tests.simulated.service import BEGIN
from tests.simulated.world import BETWEEN_COMMANDS, World, describe
from tests.task_settings import CALLBACK_POLL_INTERVAL

DEFERS = {"deferrable": True}
RESUBMITS = {**DEFERS, "on_uncertain_submit": "resubmit"}


def build(settings: dict[str, Any] | None = None, *interruptions: Interruption, **script: Any) -> World:
    """Return a world whose agent works for long and whose service is to call once."""
    script = {"work": 5000.0, "calls": "once", **script}
    return World(Script(script.pop("service", SHINZO), settings or DEFERS, **script), interruptions)


def defer(world: World, *, flow: Any = run) -> cmd.Defer:
    """Live until the task waits in the triggerer, and return the deferral."""
    with pytest.raises(DeferredError) as deferred:
        world.drive(world.begin(flow))
    command = deferred.value.args[0]
    assert isinstance(command, cmd.Defer)
    return command


def measure_wait(world: World, command: cmd.Defer) -> float:
    """Return the seconds until the trigger's first check."""
    # The deferral itself has taken a moment.
    return round(command.not_before - world.now + BETWEEN_COMMANDS, 3)


def list_commands(world: World, kind: type[Any]) -> list[Any]:
    return [command for command in world.journal if isinstance(command, kind)]


def log_of(world: World) -> str:
    return "\n".join(map(describe, list_commands(world, cmd.Log)))


def list_urls(world: World) -> list[str | None]:
    return [task.callback_url for task in world.service.tasks.values()]


def expect_url(world: World) -> str:
    """Return the URL of the submission that is on record."""
    assert world.store
    return f"{URL}{world.store.idempotency_key}"


# --- the start


@pytest.mark.parametrize(
    ("timeout", "lifetime"), [(None, WITHOUT_DEADLINE), (600.0, 600.0 + AFTER_DEADLINE)], ids=str
)
def test_a_url_is_valid_a_day_longer_than_the_timeout_or_thirty_days(
    timeout: float | None, lifetime: float
) -> None:
    assert (AFTER_DEADLINE, WITHOUT_DEADLINE) == (86_400.0, 2_592_000.0)
    world = build({**DEFERS, "timeout": timeout})
    defer(world)
    (made,) = list_commands(world, MakeCallback)
    (started,) = world.service.tasks.values()
    # Each command takes a moment.
    assert started.created_at - 1.0 < made.expires_at - lifetime <= started.created_at


def test_the_service_gets_the_url_and_the_record_and_the_log_say_so() -> None:
    world = build()
    command = defer(world)
    assert world.store
    assert world.store.is_called_back
    assert command.is_called_back
    assert list_urls(world) == [expect_url(world)]
    assert f"Shinzo will call {URL}… when the agent task changes." in log_of(world)
    assert world.store.idempotency_key not in log_of(world)


def test_a_url_that_the_service_cannot_reach_is_sent_and_not_relied_on() -> None:
    world = build(calls="out of reach")
    command = defer(world)
    assert world.store
    assert not world.store.is_called_back
    assert not command.is_called_back
    assert list_urls(world) == [expect_url(world)]
    assert (
        f"Shinzo cannot reach {URL}…, which exists only in your own network, so this task polls as without a "
        "callback. Set [agent_tasks] callback_base_url" in log_of(world)
    )


@pytest.mark.parametrize("service", [LIGHTCONE, SHINZO], ids=lambda service: service.service)
def test_without_a_callback_no_url_is_made(service: Any) -> None:
    world = build(calls="", service=service)
    command = defer(world)
    assert world.store
    assert (world.store.is_called_back, command.is_called_back) == (False, False)
    assert list_urls(world) == [None]
    assert not list_commands(world, MakeCallback)


def test_the_key_does_not_depend_on_the_url() -> None:
    called, other = build(), build(calls="out of reach")
    keys = []
    for world in (called, other):
        defer(world)
        assert world.store
        keys.append(world.store.idempotency_key)
    fields = {"message": "Work.", "callback_mode": "webhook"}
    assert keys == [build_idempotency_key(called.execution.task_try.owner, fields)] * 2


class UnconfiguredWorld(World):
    """No URL can be made."""

    def _do(self, command: cmd.Command[Any]) -> Any:
        if isinstance(command, MakeCallback):
            raise AgentTaskConfigurationError("There is no secret.")
        return super()._do(command)


def test_without_a_url_nothing_is_started_and_nothing_is_tried_again() -> None:
    world = UnconfiguredWorld(build().script).live()
    assert (world.state, world.try_number) == ("failed", 1)
    assert str(world.error) == "There is no secret."
    assert not world.service.tasks
    assert world.store is None


# --- the first wait


def test_the_worker_leaves_the_first_check_to_the_call() -> None:
    world = build()
    command = defer(world)
    assert world.service.checks == 0
    assert measure_wait(world, command) == CALLBACK_POLL_INTERVAL


@pytest.mark.parametrize(
    ("settings", "script"),
    [({}, {"calls": ""}), ({"deferrable": False}, {}), ({}, {"calls": "out of reach"})],
    ids=["no callback", "on the worker", "out of reach"],
)
def test_the_worker_makes_the_first_check_of_any_other_task(
    settings: dict[str, Any], script: dict[str, Any]
) -> None:
    world = build({**DEFERS, **settings}, work=60.0, **script).live()
    names = [type(one).__name__ for one in world.journal]
    between = names[names.index("StartTask") : names.index("GetTask")]
    assert "Defer" not in between
    assert "Sleep" not in between


def test_the_worker_makes_the_first_check_of_what_has_ended_at_its_start() -> None:
    world = build(work=0.0).live()
    assert world.state == "success"
    assert world.service.checks == 1


def test_the_worker_makes_the_first_check_of_an_earlier_trys_agent_task() -> None:
    world = build()
    defer(world)
    world.lose_worker()
    world.try_number += 1
    command = defer(world)
    # One to find it, and one to see what may have changed before the task could be called.
    assert (world.service.checks, [*world.service.tasks]) == (2, ["tsk_1"])
    assert command.is_called_back
    assert measure_wait(world, command) == CALLBACK_POLL_INTERVAL


@pytest.mark.parametrize("seconds", [None, 7.0])
def test_an_interval_of_the_users_own_counts_more_than_the_call(seconds: float | None) -> None:
    world = build({**DEFERS, "poll_interval": seconds})
    command = defer(world)
    assert command.is_called_back is (seconds is None)
    assert measure_wait(world, command) == (CALLBACK_POLL_INTERVAL if seconds is None else seconds)
    assert world.drive(relies_on_callback(world.execution)) is (seconds is None)
    assert world.store
    assert world.store.is_called_back


def test_a_budget_counts_more_than_the_call() -> None:
    world = build({**DEFERS, "budget": {"steps": 50}})
    assert not defer(world).is_called_back


def test_without_a_record_nothing_relies_on_a_call() -> None:
    world = build()
    defer(world)
    world.stored = None
    world.begin(run)
    assert not world.drive(relies_on_callback(world.execution))


# --- the resume


def test_a_call_that_tells_nothing_new_leads_to_one_check_and_the_next_wait() -> None:
    world = build()
    defer(world)
    command = defer(world, flow=resume_after_callback)
    assert world.service.checks == 1
    assert command.is_called_back
    assert measure_wait(world, command) == CALLBACK_POLL_INTERVAL


def test_a_call_whose_check_fails_leads_to_polls() -> None:
    world = build(failures=(Failure("GetTask"),))
    defer(world)
    command = defer(world, flow=resume_after_callback)
    assert not command.is_called_back
    assert measure_wait(world, command) < 10.0


def test_a_call_without_a_record_fails_the_try() -> None:
    world = build()
    defer(world)
    world.stored = None
    with pytest.raises(AgentTaskError, match="no longer names the agent task that this task waits for"):
        world.drive(world.begin(resume_after_callback))


def test_a_call_is_no_answer_to_a_parked_task() -> None:
    world = build({"deferrable": False}, work=5.0, questions=("Sure?",), people="silent")
    with pytest.raises(ParkedError) as parked:
        world.drive(world.begin(run))
    again = parked.value.args[0]
    for _ in range(3):
        with pytest.raises(ParkedError) as parked:
            world.drive(world.begin(resume_with_answer, build_callback_event(1), again.question_id))
        assert parked.value.args[0].question_id == again.question_id
    assert world.store
    assert [one.stage.value for one in world.store.questions.items] == ["asked"]
    assert not world.service.tasks["tsk_1"].heard


# --- a start that is repeated


class LosesItsStart(World):
    """The first worker is lost after its start was sent, and before the response was recorded."""

    def _do(self, command: cmd.Command[Any]) -> Any:
        result = super()._do(command)
        if isinstance(command, cmd.StartTask) and self.performed["StartTask"] == 1:
            raise WorkerLostError
        return result


class KeyedDialect(ShinzoDialect):
    """A service with callbacks that also knows idempotency keys."""

    capabilities = ShinzoDialect.capabilities | Capability.IDEMPOTENT_START


@pytest.mark.parametrize("calls", ["once", "out of reach"])
def test_a_start_that_is_submitted_again_at_once_has_the_same_url(calls: str) -> None:
    world = build(RESUBMITS, lost_answers=("start",), calls=calls)
    defer(world)
    assert list_urls(world) == [expect_url(world)] * 2


@pytest.mark.parametrize("calls", ["once", "out of reach"])
def test_a_start_that_the_next_try_submits_again_has_a_url_of_its_own(calls: str) -> None:
    world = LosesItsStart(build(RESUBMITS, calls=calls).script)
    with pytest.raises(WorkerLostError):
        world.drive(world.begin(run))
    earlier = expect_url(world)
    world.try_number += 1
    defer(world)
    assert list_urls(world) == [earlier, expect_url(world)]
    assert earlier != expect_url(world)
    assert world.store
    assert world.store.is_called_back is (calls == "once")


@pytest.mark.parametrize("is_cleared", [False, True], ids=["retried", "cleared"])
@pytest.mark.parametrize("arrived", [False, True], ids=["never arrived", "arrived"])
def test_a_start_that_the_next_try_sends_again_with_its_key_keeps_url_and_flag(
    is_cleared: bool, arrived: bool
) -> None:
    world = LosesItsStart(build(service=KeyedDialect()).script)
    with pytest.raises(WorkerLostError):
        world.drive(world.begin(run))
    earlier = expect_url(world)
    if not arrived:
        world.service.tasks.clear()
    world.try_number += 1
    world.max_tries += is_cleared
    defer(world)
    assert world.store
    # It may have called already, while nothing waited.
    is_found_again = arrived and not is_cleared
    assert world.store.is_called_back is not is_found_again
    # A clear stops the agent task of the earlier start, and starts a new one.
    is_new = is_cleared and arrived
    assert list_urls(world) == ([earlier, expect_url(world)] if is_new else [earlier])
    assert (expect_url(world) != earlier) is is_new


def test_after_a_clear_the_new_submission_has_a_url_of_its_own() -> None:
    world = build(None, CLEAR_AFTER_THE_END, work=60.0).live()
    first, second = list_urls(world)
    assert world.state == "success"
    assert first != second
    assert None not in (first, second)


# --- the limits


def test_the_timeout_is_kept_although_no_check_is_due_before_it() -> None:
    world = build({**DEFERS, "timeout": 50.0}, calls="never", retries=0).live()
    assert world.state == "failed"
    assert 50.0 < world.now - BEGIN < 60.0
    assert [task.stopped for task in world.service.tasks.values()] == [TaskState.CANCELLED]
