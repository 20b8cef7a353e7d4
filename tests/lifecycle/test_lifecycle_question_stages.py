"""How far the reply to each question got, and what that makes of the question that is seen next."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.question_log import (
    MAX_QUESTIONS,
    MAX_TEXT,
    SETTLING_TIME,
    STOP,
    Questions,
    Reply,
    Stage,
    Standing,
)
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict

NOW = 1_700_000_000.0
ASKS = AgentTask("shinzo", "tsk_1", TaskState.AWAITING_INPUT, question="Which one?")
GOES_ON = replace(ASKS, status=TaskState.RUNNING, question=None)
REPLY = Reply("Send", "The first.", {"id": "7", "name": "Ada"}, "2026-01-01T00:00:00+00:00")


def asked() -> Questions:
    return Questions().add(ASKS, NOW)


def at(stage: Stage, now: float = NOW) -> Questions:
    """Return one question at this stage, by the way that leads there."""
    questions = asked()
    for step in (Stage.ANSWERED, Stage.SENDING, Stage.SENT):
        last = questions.require_last()
        if stage in (Stage.ASKED, Stage.DROPPED):
            break
        moved = last.answer(REPLY, now) if step is Stage.ANSWERED else last.move(step, now)
        questions = questions.put(moved)
        if step is stage:
            break
    return questions.put(questions.require_last().move(stage, now)) if stage is Stage.DROPPED else questions


def test_the_first_question_is_new() -> None:
    assert Questions().classify(ASKS, NOW) is Standing.NEW


@pytest.mark.parametrize(
    ("stage", "seconds_later", "standing"),
    [
        (Stage.ASKED, 10_000, Standing.ASKED),
        (Stage.ANSWERED, 10_000, Standing.ANSWERED),
        (Stage.SENDING, SETTLING_TIME - 1, Standing.SETTLING),
        (Stage.SENDING, SETTLING_TIME, Standing.UNHEARD),
        (Stage.SENT, SETTLING_TIME - 1, Standing.SETTLING),
        (Stage.SENT, SETTLING_TIME, Standing.NEW),
        (Stage.DROPPED, 0, Standing.NEW),
    ],
)
def test_the_same_question_seen_again(stage: Stage, seconds_later: float, standing: Standing) -> None:
    assert at(stage).classify(ASKS, NOW + seconds_later) is standing


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize(
    "other",
    [
        replace(ASKS, question="And what colour?"),
        replace(ASKS, task_id="tsk_2"),
        replace(ASKS, progress=Progress(steps_completed=3)),
    ],
    ids=["another text", "another agent task", "more steps done"],
)
def test_another_question_is_new_whatever_became_of_the_one_before(stage: Stage, other: AgentTask) -> None:
    assert at(stage).classify(other, NOW) is Standing.NEW


@pytest.mark.parametrize(
    ("stage", "becomes"),
    [
        (Stage.ASKED, Stage.DROPPED),
        (Stage.ANSWERED, Stage.DROPPED),
        (Stage.SENDING, Stage.SENT),
        (Stage.SENT, Stage.SENT),
        (Stage.DROPPED, Stage.DROPPED),
    ],
)
@pytest.mark.parametrize(
    "seen",
    [GOES_ON, replace(ASKS, question="And then?"), replace(GOES_ON, status=TaskState.COMPLETED)],
    ids=["goes on", "asks something else", "has ended"],
)
def test_an_agent_that_has_gone_on_settles_the_question(
    stage: Stage, becomes: Stage, seen: AgentTask
) -> None:
    settled = at(stage).settle(seen, NOW + 5)
    assert settled.require_last().stage is becomes


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("state", [TaskState.AWAITING_INPUT, TaskState.PAUSED, TaskState.UNKNOWN])
def test_what_may_come_back_to_its_question_settles_nothing(stage: Stage, state: TaskState) -> None:
    questions = at(stage)
    assert questions.settle(replace(ASKS, status=state), NOW + 5) is questions


def test_a_decision_to_stop_is_never_settled() -> None:
    last = asked().require_last()
    questions = asked().put(last.answer(replace(REPLY, chosen_option=STOP), NOW))
    assert questions.stop_decision == replace(REPLY, chosen_option=STOP)
    assert questions.settle(GOES_ON, NOW) is questions
    assert at(Stage.ANSWERED).stop_decision is None
    assert Questions().stop_decision is None


def test_nothing_asked_is_nothing_to_settle() -> None:
    assert Questions().settle(GOES_ON, NOW) == Questions()


def test_each_question_has_a_number_and_an_id_of_its_own() -> None:
    questions = at(Stage.SENT).add(ASKS, NOW + 60)
    assert [question.number for question in questions.items] == [1, 2]
    assert len({question.id for question in questions.items}) == 2


def test_the_numbers_go_on_where_old_questions_are_forgotten() -> None:
    questions = Questions()
    for number in range(MAX_QUESTIONS + 5):
        questions = questions.add(replace(ASKS, question=f"{number}?"), NOW)
    assert len(questions.items) == MAX_QUESTIONS
    assert questions.require_last().number == MAX_QUESTIONS + 5


@pytest.mark.parametrize("text", ["x" * 100_000, None])
def test_a_kept_question_is_bounded(text: str | None) -> None:
    question = Questions().add(replace(ASKS, question=text), NOW).require_last()
    assert len(question.text) <= MAX_TEXT


def test_only_the_time_until_a_person_answered_was_waited_for() -> None:
    questions = asked()
    assert questions.seconds_waited(NOW, NOW + 40) == 40
    questions = questions.put(questions.require_last().answer(REPLY, NOW + 60))
    assert questions.seconds_waited(NOW, NOW + 1000) == 60
    questions = questions.put(questions.require_last().move(Stage.SENDING, NOW + 100))
    assert questions.seconds_waited(NOW, NOW + 1000) == 60
    assert questions.seconds_waited(NOW + 20, NOW + 1000) == 40
    assert questions.seconds_waited(NOW + 60, NOW + 1000) == 0


def test_a_try_that_began_after_the_question_counts_what_it_waited_itself() -> None:
    assert asked().seconds_waited(NOW + 10, NOW + 7210) == 7200


def test_a_clock_that_was_set_back_makes_no_negative_wait() -> None:
    assert asked().seconds_waited(NOW, NOW - 100) == 0


def test_the_attempts_to_send_are_counted_for_each_reply() -> None:
    question = at(Stage.SENDING).require_last().move(Stage.SENDING, NOW)
    assert question.attempts == 2
    assert question.answer(REPLY, NOW).attempts == 0


def test_answers_tell_who_when_what_and_whether_it_was_sent() -> None:
    questions = at(Stage.SENT).add(replace(ASKS, question="And then?"), NOW)
    (answer,) = questions.list_answers()
    assert answer == {
        "number": 1,
        "question_id": questions.items[0].id,
        "question": "Which one?",
        "chosen_option": "Send",
        "reply": "The first.",
        "answered_by": {"id": "7", "name": "Ada"},
        "answered_at": "2026-01-01T00:00:00+00:00",
        "sent": True,
    }
    assert at(Stage.ANSWERED).list_answers()[0]["sent"] is False


@pytest.mark.parametrize("stage", Stage)
def test_questions_survive_the_store(stage: Stage) -> None:
    record = Submission("key", 1, 0, questions=at(stage))
    assert Submission.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_fields_of_a_later_version_are_ignored() -> None:
    question = at(Stage.SENT).require_last()
    stored = question.to_json()
    later = {**stored, "colour": "red", "reply": {**stored["reply"], "mood": "good"}}
    assert Questions.from_json([later]) == Questions((question,))


@pytest.mark.parametrize(
    "stored", [[{}], [{"stage": "asked"}], [{"stage": "?"}], [None], 3, [{"stage": "sent", "reply": 3}]]
)
def test_questions_that_cannot_be_read_do_not_hide_the_agent_task(stored: Any) -> None:
    record = Submission("key", 1, 0, task_id="tsk_1")
    assert Submission.from_json({**record.to_json(), "questions": stored}) == record


@pytest.mark.parametrize(
    ("decision", "asks"),
    [
        (Decision(Verdict.REACHED, task=ASKS), True),
        (Decision(Verdict.REACHED, task=GOES_ON), False),
        (Decision(Verdict.REACHED), False),
        (Decision(Verdict.WAIT, task=ASKS), False),
    ],
)
def test_a_decision_tells_whether_the_agent_asks(decision: Decision, asks: bool) -> None:
    assert decision.asks is asks


@pytest.mark.parametrize("stage", Stage)
def test_only_a_question_without_an_answer_is_open(stage: Stage) -> None:
    assert at(stage).is_asking is (stage is Stage.ASKED)
    assert not Questions().is_asking
