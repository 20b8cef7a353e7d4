"""What happens rarely in the life of an agent task, one event at a time, in the simulated world."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import StartedTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskError,
    AgentTaskRejectedError,
    AgentTaskTimeoutError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.run import resume_after_wait, resume_with_answer, resume_without_event, run
from airflow_agent_tasks.lifecycle.stop import stop_on_execution_timeout
from airflow_agent_tasks.lifecycle.trigger_event import build_event, read_event
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from tests.service_samples import LIGHTCONE, SHINZO
from tests.simulated.away import DeferredError, ParkedError
from tests.simulated.form import answer_to
from tests.simulated.script import CLEAR_AFTER_THE_END, Failure, Interruption, Script
from tests.simulated.world import World, describe

WHICH = ("Which one?",)
PROGRAM = {"has_reply": True, "on_awaiting_input": "fail"}


def live(service: Any = LIGHTCONE, *interruptions: Interruption, **script: Any) -> World:
    return World(Script(service, **script), interruptions).live()


def park(**script: Any) -> tuple[World, cmd.Park]:
    """Live until someone is asked."""
    world = World(Script(LIGHTCONE, questions=WHICH, **script))
    with pytest.raises(ParkedError) as parked:
        world.drive(world.begin(run))
    return world, parked.value.args[0]


def defer(**script: Any) -> tuple[World, cmd.Defer]:
    """Live until the wait goes on in the triggerer."""
    settings = {"deferrable": True, **script.pop("settings", {})}
    world = World(Script(LIGHTCONE, settings, **script))
    with pytest.raises(DeferredError) as deferred:
        world.drive(world.begin(run))
    return world, deferred.value.args[0]


def log_of(world: World) -> str:
    return "\n".join(map(describe, world.journal))


def heard(world: World) -> list[str]:
    return [text for task in world.service.tasks.values() for _, _, text in task.heard]


def complete_at_the_stop(world: World) -> None:
    """Let the agent complete just before it is stopped."""

    def complete(now: World) -> None:
        if isinstance(now.journal[-1], cmd.SaveSubmission) and now.journal[-1].submission.is_stopping:
            for task in now.service.tasks.values():
                task.stopped = TaskState.COMPLETED

    world.on_command = complete


# --- questions


@pytest.mark.parametrize(
    ("people", "reason"),
    [("empty", "was rejected: it was empty"), ("elsewhere", "it answers an earlier question")],
)
def test_a_reply_that_cannot_be_sent_is_asked_for_again(people: str, reason: str) -> None:
    world = live(questions=WHICH, people=people)
    assert (world.state, heard(world)) == ("success", [answer_to(WHICH[0])])
    assert reason in log_of(world)


@pytest.mark.parametrize("people", ["empty", "elsewhere"])
def test_a_rejected_answer_is_not_read_again_in_the_form_of_a_try_that_was_lost(people: str) -> None:
    script: dict[str, Any] = {"questions": WHICH, "people": people, "has_form_per_try": True}
    commands = live(**script).since_last
    for first, second in itertools.product(range(1, commands + 1), repeat=2):
        crashes = (Interruption("crash", number, is_after=True) for number in (first, second))
        world = live(LIGHTCONE, *crashes, **script)
        assert (world.state, heard(world)) == ("success", [answer_to(*WHICH)]), log_of(world)
        assert len(world.desk.answered) <= 2, log_of(world)


def test_a_reply_that_cannot_be_sent_is_dropped_once_the_agent_no_longer_asks() -> None:
    world, command = park(people="empty")
    assert world.desk.answer_within(world.now, 100.0)
    world.now += 100.0
    world.service.send(world.store.started, "From elsewhere.", world.now)  # type: ignore[union-attr,arg-type]
    world.now += 100.0
    response = world.desk.form.response  # type: ignore[union-attr]
    outcome = world.drive(world.begin(resume_with_answer, response, command.question_id))
    assert outcome.task.status is TaskState.COMPLETED
    assert heard(world) == ["From elsewhere."]


def test_an_answer_to_a_question_that_is_no_longer_open_is_not_sent() -> None:
    world, _ = park()
    world.desk.answer_within(world.now, 100.0)
    response = world.desk.form.response  # type: ignore[union-attr]
    world.desk.form.response = None  # type: ignore[union-attr]
    with pytest.raises(ParkedError):
        world.drive(world.begin(resume_with_answer, response, "9-another"))
    assert heard(world) == []
    assert "no longer open" in log_of(world)


def test_a_recheck_of_a_question_that_is_no_longer_open_goes_on_with_the_newest() -> None:
    world, _ = park()
    with pytest.raises(ParkedError) as parked:
        world.drive(world.begin(resume_with_answer, None, "9-another"))
    assert parked.value.args[0].question_id.startswith("1-")


def test_the_question_is_shown_once_the_plugin_can_be_reached() -> None:
    world, command = park(has_plugin=False)
    world.script = world.desk.script = replace(world.script, has_plugin=True)
    with pytest.raises(ParkedError):
        world.drive(world.begin(resume_with_answer, None, command.question_id))
    assert world.desk.form
    assert world.desk.form.names_question
    assert world.store
    assert world.store.questions.require_last().is_shown


@pytest.mark.parametrize("script", [{"people": "stops"}, {"people": "silent"}])
def test_what_completes_just_before_it_is_stopped_is_delivered(script: dict[str, Any]) -> None:
    world = World(Script(LIGHTCONE, {"input_timeout": 100.0}, questions=WHICH, **script))
    complete_at_the_stop(world)
    world.live()
    assert (world.state, world.delivered) == ("success", ["tsk_1"])


def test_a_reply_that_never_arrives_fails_the_try_and_the_next_one_sends_it() -> None:
    world = live(
        settings=PROGRAM, questions=WHICH, failures=(Failure("SendMessage", times=6),), downtime=60.0
    )
    assert (world.state, world.try_number, heard(world)) == ("success", 2, [answer_to(WHICH[0])])
    assert "did not arrive in 5 attempts" in log_of(world)


def test_a_reply_that_the_service_rejects_fails_the_task() -> None:
    world = live(settings=PROGRAM, questions=WHICH, failures=(Failure("SendMessage", status=422),))
    assert (world.state, heard(world)) == ("failed", [])
    assert isinstance(world.error, AgentTaskRejectedError)


# --- the start


def test_an_idempotency_key_of_the_user_that_finds_a_stopped_agent_task_is_refused() -> None:
    script = Script(LIGHTCONE, {"timeout": 5.0}, work=100.0, retries=0, end="failed")
    world = World(script, (CLEAR_AFTER_THE_END,))
    fields = {"instruction": "Work.", "idempotency_key": "mine"}
    world.settings = replace(world.settings, start_fields=fields)
    world.live()
    assert isinstance(world.error, AgentTaskArgumentError)
    assert "ti.try_number" in str(world.error)
    assert world.store is None


def test_a_submit_that_fails_after_one_without_an_answer_leaves_doubt() -> None:
    world = live(
        SHINZO,
        settings={"on_uncertain_submit": "resubmit"},
        lost_answers=("start",),
        failures=(Failure("StartTask", first=2),),
    )
    assert isinstance(world.error, AgentTaskUncertainError)
    assert not world.error.is_final
    assert (world.state, len(world.service.tasks)) == ("success", 2)


def test_an_id_that_cannot_be_recorded_does_not_end_the_wait() -> None:
    world = live(failures=(Failure("SaveSubmission", first=2),))
    assert (world.state, world.try_number) == ("success", 1)
    assert "a retry may not find the agent task" in log_of(world)


@pytest.mark.parametrize("kind", ["crash", "clear"])
def test_an_agent_task_that_is_gone_is_started_anew(kind: str) -> None:
    # The worker is lost before it checks for the first time, so the next try does.
    gone = Failure("GetTask", status=404)
    world = live(LIGHTCONE, Interruption(kind, 7, is_after=True), failures=(gone,))
    assert (world.state, len(world.service.tasks)) == ("success", 2)
    assert "is gone" in log_of(world)


# --- the record


def test_a_question_without_a_record_fails_the_try() -> None:
    world, command = defer(questions=WHICH)
    world.stored = None
    world.now += 100.0
    reported = Decision(Verdict.REACHED)
    with pytest.raises(AgentTaskError, match="no longer has the record of Agent task tsk_1"):
        world.drive(world.begin(resume_after_wait, command.started, reported, has_questions=True))


def test_an_answer_without_a_record_fails_the_try() -> None:
    world, command = park()
    world.stored = None
    with pytest.raises(AgentTaskError, match="no longer names the agent task that this task waits for"):
        world.drive(world.begin(resume_with_answer, None, command.question_id))


def test_an_odd_resumption_without_a_record_fails_with_its_reason() -> None:
    world, _ = defer()
    world.stored = None
    with pytest.raises(AgentTaskError, match="the reason"):
        world.drive(world.begin(resume_without_event, AgentTaskError("the reason")))


def test_an_odd_resumption_waits_on() -> None:
    world, _ = defer()
    world.now += 100.0
    outcome = world.drive(world.begin(resume_without_event, AgentTaskError("the reason")))
    assert outcome.task.status is TaskState.COMPLETED


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_question_is_returned_although_the_record_cannot_be_marked(is_gone: bool) -> None:
    settings = {"on_awaiting_input": "return"}
    failures = () if is_gone else (Failure("SaveSubmission", first=3),)
    world, command = defer(settings=settings, questions=WHICH, failures=failures)
    world.stored = None if is_gone else world.store
    world.now += 100.0
    reported = Decision(Verdict.REACHED)
    outcome = world.drive(world.begin(resume_after_wait, command.started, reported, has_questions=False))
    assert outcome.task.status is TaskState.AWAITING_INPUT


@pytest.mark.parametrize(
    "failures",
    [
        (Failure("SaveSubmission", first=3),),
        (Failure("DropSubmission"),),
        (Failure("SaveSubmission", first=3), Failure("DropSubmission")),
    ],
)
def test_an_agent_task_is_stopped_although_the_record_cannot_be_written(failures: Any) -> None:
    world = live(settings={"timeout": 5.0}, work=100.0, retries=0, failures=failures)
    assert (world.state, world.service.list_active(world.now)) == ("failed", [])


def test_an_agent_task_without_a_record_is_stopped_at_its_timeout() -> None:
    world, command = defer(settings={"timeout": 5.0}, work=100.0)
    world.stored = None
    world.now += 10.0
    reported = Decision(Verdict.TIMEOUT)
    with pytest.raises(AgentTaskTimeoutError):
        world.drive(world.begin(resume_after_wait, command.started, reported, has_questions=False))
    assert world.service.list_active(world.now) == []


# --- limits and ends


def test_an_execution_timeout_is_named() -> None:
    world = live(settings={"execution_timeout": 5.0, "timeout": 50.0}, work=100.0, retries=0)
    assert isinstance(world.error, AgentTaskTimeoutError)
    assert "within its execution_timeout of 5 s" in str(world.error)


@pytest.mark.parametrize(
    ("on_timeout", "failures", "is_stopped"),
    [("stop", (), True), ("stop", (Failure("LoadSubmission", first=2),), True), ("leave", (), False)],
)
def test_what_an_execution_timeout_stops_is_in_the_record(
    on_timeout: str, failures: Any, is_stopped: bool
) -> None:
    world, command = defer(settings={"on_timeout": on_timeout}, work=100.0, failures=failures)
    flow = world.begin(resume_after_wait, command.started, Decision(Verdict.REACHED), has_questions=False)
    next(flow)  # it has only begun
    world.drive(stop_on_execution_timeout(world.execution))
    assert (world.service.list_active(world.now) == []) is is_stopped


def test_an_execution_timeout_before_the_start_stops_nothing() -> None:
    world = World(Script(LIGHTCONE))
    world.begin(run)
    world.drive(stop_on_execution_timeout(world.execution))
    assert world.performed["StopTask"] == 0


def test_the_agent_task_is_unknown_before_the_start() -> None:
    world = World(Script(LIGHTCONE))
    world.begin(run)
    with pytest.raises(AgentTaskError, match="No agent task is known"):
        _ = world.execution.started


def test_an_outage_in_the_last_try_says_that_no_try_is_left() -> None:
    world = live(settings={"max_outage": 60.0}, outage=(3.0, 1000.0), retries=0)
    assert isinstance(world.error, AgentTaskUnavailableError)
    assert "no try is left to attach to it" in str(world.error)


def test_a_status_check_that_is_refused_ends_the_wait() -> None:
    world = live(failures=(Failure("GetTask", status=403),))
    assert (world.state, world.performed["GetTask"]) == ("failed", 1)
    assert "Stopped polling Agent task" in log_of(world)


def test_a_refusal_that_the_trigger_reports_ends_the_wait() -> None:
    world, command = defer()
    reported = Decision(Verdict.ERROR, error=AgentTaskError("the key is wrong"))
    with pytest.raises(AgentTaskError, match="the key is wrong"):
        world.drive(world.begin(resume_after_wait, command.started, reported, has_questions=False))


# --- the trigger's event


def test_an_event_survives_the_database() -> None:
    error = AgentTaskError("401")
    error.is_final = True
    started = StartedTask("tsk_1", "agt_1", 1_700_000_000.5)
    event = json.loads(json.dumps(build_event(started, Decision(Verdict.ERROR, error=error))))
    read, reported = read_event(event)
    assert (read, reported.verdict, str(reported.error)) == (started, Verdict.ERROR, "401")
    assert reported.error
    assert reported.error.is_final


@pytest.mark.parametrize("event", [None, {}, "done", {"agent_task_id": "tsk_1", "verdict": "?"}])
def test_anything_but_our_event_is_refused(event: Any) -> None:
    with pytest.raises(AgentTaskError, match="something other than its trigger's event"):
        read_event(event)
