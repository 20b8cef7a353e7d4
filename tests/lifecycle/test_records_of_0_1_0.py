"""
A try of this version goes on from each record that 0.1.0 has stored, in the simulated world.

Whatever the stage, nothing is started twice, and each reply reaches the agent once.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.lifecycle.question_form import Asking, read_response
from airflow_agent_tasks.lifecycle.question_log import Question, Stage, build_fingerprint
from airflow_agent_tasks.lifecycle.run import resume_after_wait, resume_with_answer
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.lifecycle.trigger_event import read_event
from airflow_agent_tasks.lifecycle.wait_policy import Verdict
from airflow_agent_tasks.services.base import Capability, Dialect
from tests.samples_of_0_1_0 import dialect_of, load
from tests.simulated.away import ParkedError
from tests.simulated.form import Form, answer_to
from tests.simulated.script import Script
from tests.simulated.service import SimulatedTask
from tests.simulated.world import World

RECORDS, RESUMES = load("records"), load("resumes")
QUESTIONS = ("Which one?", "Sure?")
STARTED = [name for name, stored in RECORDS.items() if stored["task_id"]]
INTENDED = [name for name in RECORDS if name not in STARTED]
#: Those in which a user has decided to stop the agent.
STOPPED = [name for name in STARTED if "stop_chosen" in name]
GOES_ON = [name for name in STARTED if name not in STOPPED]
EVENTS = [name for name, row in RESUMES.items() if "verdict" in (row["next_kwargs"].get("event") or {})]
ANSWERS = [name for name, row in RESUMES.items() if row["next_method"] == "take_answer"]


@dataclass
class AskingAgent(SimulatedTask):
    """The agent of the samples: it asks after two steps and after four. Lightcone does not report steps."""

    def describe(self, service: Dialect, now: float, *, reused: bool = False) -> AgentTask:
        steps = 2 * self.locate(now)[0] + 2
        task = super().describe(service, now, reused=reused)
        progress = Progress("working", steps_completed=steps) if service.service == "shinzo" else None
        return replace(task, progress=progress)


def read(name: str) -> Submission:
    submission = Submission.from_json(RECORDS[name])
    assert submission
    return submission


def build_world(stored: Submission, *, has_heard_last: bool = False, **script: Any) -> World:
    """Return the world in which the worker of 0.1.0 that has stored this record is lost."""
    dialect = dialect_of(stored.conn_id)
    world = World(Script(dialect, questions=QUESTIONS, **script))
    questions = stored.questions.items
    world.stored = replace(stored, max_tries=world.max_tries)
    world.now = max([stored.submitted_at, *(question.changed_at for question in questions)]) + 5.0
    world.try_number = stored.try_number
    if stored.task_id is None:
        return world
    agent = AskingAgent(
        stored.task_id, stored.idempotency_key, stored.submitted_at, TaskState.COMPLETED, None, 0.0, QUESTIONS
    )
    world.service.tasks[agent.task_id] = agent
    world.service.recorded.add(agent.task_id)
    for question in questions:
        is_last_on_its_way = question.stage is Stage.SENDING and has_heard_last
        if question.reply and (question.stage is Stage.SENT or is_last_on_its_way):
            agent.heard.append((question.changed_at, 0, question.reply.text or ""))
    last = stored.questions.last
    if last and last.stage is Stage.ASKED:
        asking = Asking(last.number, last.id, agent.describe(dialect, world.now), dialect.title, "", "")
        world.desk.form = Form(asking, names_question=True, shown_at=last.asked_at)
    return world


def live(world: World) -> World:
    world.lose_worker()
    return world.live()


def heard(world: World) -> list[str]:
    return [text for task in world.service.tasks.values() for _, _, text in task.heard]


def list_expected(stored: Submission) -> list[str]:
    """Return what the agent is told in the end: the stored replies, and those to what is asked after them."""
    replies = {
        question.text: question.reply.text
        for question in stored.questions.items
        if question.reply and question.stage is not Stage.DROPPED
    }
    return [replies.get(question) or answer_to(question) for question in QUESTIONS]


@pytest.mark.parametrize("name", RECORDS)
def test_nothing_that_is_stored_gets_lost_when_it_is_read_and_written(name: str) -> None:
    stored = json.loads(json.dumps(read(name).to_json()))
    old, new = RECORDS[name], {**stored, "questions": ...}
    # What this version has added has its default in a record that does not have it.
    assert new == {**Submission("", 0, 0).to_json(), **old, "questions": ...}
    added = asdict(Question(0, "", "", 0.0))
    assert stored["questions"] == [{**added, **question} for question in old["questions"]]


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_a_later_version_is_read_by_this_one(name: str) -> None:
    questions = [{**question, "later": 1} for question in RECORDS[name]["questions"]]
    assert Submission.from_json({**RECORDS[name], "later": [1], "questions": questions}) == read(name)


@pytest.mark.parametrize("name", GOES_ON)
@pytest.mark.parametrize("has_heard_last", [False, True], ids=["", "heard"])
def test_the_next_try_goes_on_with_the_agent_task(name: str, has_heard_last: bool) -> None:
    stored = read(name)
    world = live(build_world(stored, has_heard_last=has_heard_last))
    assert (world.state, world.try_number) == ("success", stored.try_number + 1)
    assert world.delivered == [stored.task_id] == [*world.service.tasks]
    assert heard(world) == list_expected(stored)


@pytest.mark.parametrize("name", [name for name in GOES_ON if RECORDS[name]["questions"]])
def test_someone_is_asked_again_where_the_form_stayed_with_the_earlier_try(name: str) -> None:
    # As after the upgrade to Airflow 3.4, which keeps a form with the try that opened it.
    stored = read(name)
    world = build_world(stored)
    world.desk.form = None
    live(world)
    assert (world.state, world.delivered, heard(world)) == (
        "success",
        [stored.task_id],
        list_expected(stored),
    )


@pytest.mark.parametrize("name", STOPPED)
def test_what_somebody_chose_to_stop_is_stopped_and_no_other_is_started(name: str) -> None:
    stored = read(name)
    world = live(build_world(stored))
    assert (world.state, [*world.service.tasks]) == ("failed", [stored.task_id])
    assert not world.service.list_active(world.now)
    assert heard(world) == []


@pytest.mark.parametrize("name", INTENDED)
@pytest.mark.parametrize("was_started", [False, True], ids=["lost", "started"])
def test_a_start_that_was_never_answered_is_repeated_only_under_its_key(name: str, was_started: bool) -> None:
    stored = read(name)
    dialect = dialect_of(stored.conn_id)
    world = build_world(stored)
    fields = dialect.put_idempotency_key({}, stored.idempotency_key)
    if was_started:
        world.service.start(fields, world.now)
    live(world)
    if Capability.IDEMPOTENT_START in dialect.capabilities:
        assert (world.state, len(world.service.tasks)) == ("success", 1)
        assert heard(world) == [answer_to(question) for question in QUESTIONS]
    else:
        assert (world.state, len(world.service.tasks)) == ("failed", int(was_started))
        assert stored.idempotency_key in str(world.error)


@pytest.mark.parametrize("name", STARTED)
def test_a_clear_stops_the_agent_task_and_starts_anew(name: str) -> None:
    stored = read(name)
    world = build_world(stored)
    # As a clear does it.
    world.max_tries += 1
    live(world)
    old, new = world.service.tasks.values()
    assert (old.task_id, world.delivered, world.state) == (stored.task_id, [new.task_id], "success")
    assert not world.service.doubled
    assert [text for _, _, text in new.heard] == [answer_to(question) for question in QUESTIONS]


def test_what_0_1_0_was_about_to_stop_is_not_told_from_what_waits() -> None:
    # It did not record that it was about to stop: an agent task that is paused is waited for until its time
    # is up. Only then does a new one start.
    stored = read("started_lightcone")
    world = build_world(stored, settings={"timeout": 300.0})
    world.service.tasks[stored.task_id or ""].stopped = TaskState.PAUSED
    live(world)
    old, new = world.service.tasks.values()
    assert (world.state, world.delivered, new.created_at > old.created_at + 300.0) == (
        "success",
        [new.task_id],
        True,
    )


# --- resumes


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_read(name: str) -> None:
    event = RESUMES[name]["next_kwargs"]["event"]
    started, decision = read_event(event)
    assert asdict(started) == {key: event[key] for key in ("agent_task_id", "agent_id", "started_at")}
    assert decision.verdict is Verdict(event["verdict"])
    assert decision.error
    assert decision.error.is_final is event["is_final"]
    assert event["error"] is None or str(decision.error) == event["error"]


@pytest.mark.parametrize("name", EVENTS)
def test_a_task_goes_on_after_an_event(name: str) -> None:
    event = RESUMES[name]["next_kwargs"]["event"]
    stored = next(read(record) for record in STARTED if not RECORDS[record]["questions"])
    stored = replace(
        stored, task_id=event["agent_task_id"], agent_id=event["agent_id"], submitted_at=event["started_at"]
    )
    world = build_world(stored)
    started, decision = read_event(event)
    is_asked = bool(RESUMES[name]["next_kwargs"].get("is_asked"))
    flow = world.begin(resume_after_wait, started, decision, has_questions=is_asked)
    if decision.verdict is Verdict.ERROR:
        with pytest.raises(AgentTaskError, match=re.escape(event["error"])):
            world.drive(flow)
    else:
        # The agent itself is asked for its state: here it has its first question.
        with pytest.raises(ParkedError) as parked:
            world.drive(flow)
        assert parked.value.args[0].question_id.startswith("1-")
    assert [*world.service.tasks] == [stored.task_id]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_parked_task_goes_on_with_what_it_is_resumed_with(name: str) -> None:
    row = RESUMES[name]
    event, question_id = row["next_kwargs"].get("event"), row["next_kwargs"]["question_id"]
    stored = read(row["record"])
    last = stored.questions.require_last()
    assert question_id == last.id
    world = build_world(stored, settings={"input_timeout": 1e6})
    agent = world.service.tasks[stored.task_id or ""]
    assert build_fingerprint(agent.describe(world.service.dialect, world.now)) == last.fingerprint
    before, reply = heard(world), read_response(event)
    flow = world.begin(resume_with_answer, event, question_id)
    if reply and reply.chosen_option == "Stop the agent":
        with pytest.raises(AgentTaskCancelledError, match="chose 'Stop the agent'"):
            world.drive(flow)
        assert not world.service.list_active(world.now)
    else:
        with suppress(ParkedError):
            world.drive(flow)
    assert heard(world) == [*before, *([reply.text] if reply and reply.text else [])]
