"""Limits hold in every loop of an execution: agents that ask without end, and stops without effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.question_log import MAX_AUTOMATIC_REPLIES, SETTLING_TIME
from airflow_agent_tasks.lifecycle.run import run
from airflow_agent_tasks.lifecycle.stop import PAUSES_BEFORE_LOOKS
from airflow_agent_tasks.services.base import Dialect
from tests.service_samples import LIGHTCONE, SHINZO
from tests.simulated.away import WorkerLostError
from tests.simulated.script import CLEAR_AFTER_THE_END, Failure, Interruption, Script
from tests.simulated.service import BEGIN, SHOWN_LATE, SimulatedTask
from tests.simulated.world import World, describe

SERVICES = [LIGHTCONE, SHINZO]
#: Seconds for the requests and the commands of a step.
SLACK = 10.0


class StuckAgent(SimulatedTask):
    """Takes each message, and asks the same as before."""

    def locate(self, now: float) -> tuple[int, TaskState]:
        return 0, self.stopped or TaskState.AWAITING_INPUT


class TalkativeAgent(SimulatedTask):
    """Takes each message, and asks something else at once."""

    def locate(self, now: float) -> tuple[int, TaskState]:
        return 0, self.stopped or TaskState.AWAITING_INPUT

    def describe(self, service: Dialect, now: float, *, reused: bool = False) -> AgentTask:
        shown = sum(at + SHOWN_LATE <= now for at, _, _ in self.heard)
        task = super().describe(service, now, reused=reused)
        question = f"And {shown}?" if task.question else None
        return replace(task, question=question, progress=Progress("asking", shown))


class DeafAgent(SimulatedTask):
    """Goes on after each stop that the service accepts, for so many seconds."""

    deaf_for = 1e9

    def locate(self, now: float) -> tuple[int, TaskState]:
        shown, state = super().locate(now)
        if self.stopped and now < self.created_at + self.deaf_for:
            return shown, TaskState.RUNNING
        return shown, state


def live(service: Dialect, kind: type[SimulatedTask], *, retries: int = 0, **script: Any) -> World:
    world = World(Script(service, retries=retries, **script))
    world.service.kind = kind
    return world.live()


def heard(world: World) -> list[str]:
    return [text for task in world.service.tasks.values() for _, _, text in task.heard]


def log_of(world: World) -> str:
    return "\n".join(map(describe, world.journal))


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
@pytest.mark.parametrize("kind", [StuckAgent, TalkativeAgent])
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
@pytest.mark.parametrize("policy", ["ask", "return", "fail"])
@pytest.mark.parametrize("limit", ["timeout", "execution_timeout"])
@pytest.mark.parametrize("seconds", [5.0, 15.0, 40.0])
def test_an_agent_that_keeps_asking_is_stopped_at_the_limit(
    service: Dialect, kind: type[SimulatedTask], deferrable: bool, policy: str, limit: str, seconds: float
) -> None:
    settings = {"has_reply": True, "on_awaiting_input": policy, "deferrable": deferrable, limit: seconds}
    world = live(service, kind, questions=("Sure?",), people="silent", settings=settings)
    assert world.state == "failed"
    assert f"{limit} of {seconds:g} s" in str(world.error)
    assert world.now - BEGIN < seconds + SLACK
    assert not world.service.list_active(world.now)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
@pytest.mark.parametrize(
    ("policy", "state"), [("ask", "failed"), ("return", "success"), ("fail", "failed")], ids=str
)
def test_the_same_question_is_answered_so_often_and_then_the_policy_decides(
    service: Dialect, deferrable: bool, policy: str, state: str
) -> None:
    settings = {
        "has_reply": True,
        "on_awaiting_input": policy,
        "deferrable": deferrable,
        "input_timeout": 50.0,
    }
    world = live(service, StuckAgent, questions=("Sure?",), people="silent", settings=settings)
    assert world.state == state
    assert len(heard(world)) == MAX_AUTOMATIC_REPLIES
    assert "the operator's reply function is no longer called" in log_of(world)
    assert world.now - BEGIN < (MAX_AUTOMATIC_REPLIES + 1) * (SETTLING_TIME + SLACK) + 50.0


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
def test_the_default_reply_is_sent_so_often_and_then_nobody_has_answered(service: Dialect) -> None:
    settings = {"input_timeout": 20.0, "input_default": "Yes."}
    world = live(service, StuckAgent, questions=("Sure?",), people="silent", settings=settings)
    assert world.state == "failed"
    assert heard(world) == ["Yes."] * MAX_AUTOMATIC_REPLIES
    assert "Nobody answered question 6" in str(world.error)
    assert "input_default was already sent 5 times in a row, the limit." in str(world.error)
    assert not world.service.list_active(world.now)


@pytest.mark.parametrize("policy", ["ask", "fail"])
def test_the_same_words_count_as_the_same_question_although_the_agent_makes_steps(policy: str) -> None:
    settings = {"has_reply": True, "on_awaiting_input": policy}
    world = live(SHINZO, SimulatedTask, questions=("Go on?",) * 7, settings=settings)
    people = len(world.desk.answered)
    assert (world.state, people) == (("success", 1) if policy == "ask" else ("failed", 0))
    # After an answer of a person, reply is called again.
    assert len(heard(world)) == (7 if policy == "ask" else MAX_AUTOMATIC_REPLIES)


def test_other_questions_are_answered_as_often_as_they_are_asked() -> None:
    questions = tuple(f"Go on with {number}?" for number in range(9))
    world = live(SHINZO, SimulatedTask, questions=questions, settings={"has_reply": True})
    assert (world.state, len(heard(world))) == ("success", 9)


# --- stops without effect


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
@pytest.mark.parametrize("limit", ["timeout", "execution_timeout"])
def test_a_stop_is_not_believed_while_the_agent_goes_on(service: Dialect, limit: str) -> None:
    world = live(service, DeafAgent, work=1e6, settings={limit: 20.0})
    assert world.state == "failed"
    assert "The service accepted the stop, but the agent task still runs after the stop" in str(world.error)
    assert "It was stopped" not in str(world.error)
    assert world.store
    assert world.store.is_stopping  # so that a next try finishes it
    assert world.xcoms["status"] == "running"


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
def test_a_stop_that_takes_a_moment_is_waited_for(service: Dialect) -> None:
    class SlowAgent(DeafAgent):
        deaf_for = 20.0 + sum(PAUSES_BEFORE_LOOKS)

    world = live(service, SlowAgent, work=1e6, settings={"timeout": 20.0})
    assert "It was stopped" in str(world.error)
    assert world.store is None
    assert world.xcoms["status"] == ("cancelled" if service is SHINZO else "paused")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
def test_no_second_agent_starts_after_a_clear_while_the_first_goes_on(service: Dialect) -> None:
    world = World(Script(service, retries=0, questions=("Sure?",), settings={"on_awaiting_input": "return"}))
    world.service.kind = DeafAgent
    world.pending = [CLEAR_AFTER_THE_END]
    world.live()
    assert [*world.service.tasks] == ["tsk_1"]
    assert world.state == "failed"
    assert "still runs after the stop" in str(world.error)


@pytest.mark.parametrize("limit", ["timeout", "execution_timeout"])
def test_where_the_record_has_lost_the_time_of_the_start_the_limit_counts_from_now(limit: str) -> None:
    crash = Interruption("crash", 7, is_after=True)
    world = World(Script(LIGHTCONE, {limit: 30.0}, work=1e6, retries=1), (crash,))
    with pytest.raises(WorkerLostError):
        world.drive(world.begin(run))
    assert world.store
    assert world.store.task_id
    world.stored, world.now = replace(world.store, submitted_at=0.0), world.now + 500.0
    lost_at = world.now
    world.lose_worker()
    world.live()
    assert [*world.service.tasks] == ["tsk_1"]
    assert limit in str(world.error)
    assert 30.0 <= world.now - lost_at < 30.0 + 2 * SLACK


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
def test_a_user_who_stops_an_agent_that_goes_on_leaves_it_to_the_next_try(service: Dialect) -> None:
    world = live(service, DeafAgent, questions=("Sure?",), people="stops", retries=1)
    assert world.state == "failed"
    assert (world.try_number, [*world.service.tasks]) == (2, ["tsk_1"])
    assert "chose 'Stop the agent'" in str(world.error)
    assert world.error
    assert not world.error.is_final


@pytest.mark.parametrize("is_cleared", [False, True], ids=["retried", "cleared"])
@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.service)
def test_a_task_that_is_not_found_is_gone_only_if_it_is_known_where_it_ran(
    service: Dialect, is_cleared: bool
) -> None:
    unknown = Failure("GetTask", first=2, times=99, status=404)
    world = World(
        Script(service, retries=3, failures=(unknown,)), (Interruption("crash", 10, is_after=True),)
    )
    with pytest.raises(WorkerLostError):
        world.drive(world.begin(run))
    assert world.store
    world.stored = replace(world.store, agent_id=None)
    if is_cleared:
        world.max_tries += 1
    world.lose_worker()
    world.live()
    started = len(world.service.tasks)
    if service is LIGHTCONE:  # which has no agents to lose
        assert started > 1
    else:
        assert (world.state, started) == ("failed", 1)
        assert "no longer names its agent" in str(world.error)
