"""
The question log: the questions that an agent asked for one Airflow task, and the stage of each reply.

A reply must reach the agent exactly once, although its worker may die at any moment. So each step is recorded
before it is taken. The services give their questions no ids. A question differs from the previous one by its
text and the number of steps done, or, if both are equal, by the time since the reply was sent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Annotated, Any, TypedDict

import msgspec

from airflow_agent_tasks.agent_task import AgentTask, TaskState

#: Seconds since 1970, up to the year 9999, or a duration in seconds. Stored values may be damaged.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]

#: The repliers that are not users: the operator's ``reply``, and its ``input_default``.
REPLY_ID, DEFAULT_ID = "reply", "input_default"
#: How many times in a row the same question gets an automatic reply.
MAX_AUTOMATIC_REPLIES = 5

#: The options of the form.
SEND = "Send"
STOP = "Stop the agent"
#: Seconds for which a service may still show a question after it got the reply.
SETTLING_TIME = 30.0
#: Limits of the record, which is a database row: the characters per question, and the number of questions.
MAX_TEXT = 1_000
MAX_QUESTIONS = 200


class Stage(str, Enum):
    """How far a question got."""

    #: The question is open in the Airflow UI.
    ASKED = "asked"
    #: There is a reply that has not been sent yet.
    ANSWERED = "answered"
    #: The reply is being sent; it may have arrived.
    SENDING = "sending"
    SENT = "sent"
    #: The agent moved on or ended before a reply was sent.
    DROPPED = "dropped"


class Standing(Enum):
    """How the question of an agent task that awaits input relates to the questions before it."""

    NEW = "new"
    ASKED = "asked"
    ANSWERED = "answered"
    #: It was answered a moment ago; the service may not show that yet.
    SETTLING = "settling"
    #: The reply was sent, but got no response, and the agent is still asking: it never arrived.
    UNHEARD = "unheard"


class Replier(TypedDict):
    """Who gave a reply: an Airflow user, ``reply`` or ``input_default``."""

    id: str
    name: str


@dataclass(frozen=True)
class Reply:
    """
    A reply to send to the agent, or the decision to stop it.

    :param chosen_option: The option that was chosen in the form.
    :param text: The text, or None.
    :param answered_by: Who gave the reply.
    :param answered_at: When, as an ISO 8601 timestamp.
    """

    chosen_option: str
    text: str | None
    answered_by: Replier
    answered_at: str


@dataclass(frozen=True)
class Question:
    """
    One question of the agent.

    :param number: Its number among the questions of this agent task, from 1.
    :param text: Its text, shortened.
    :param fingerprint: Distinguishes it from the previous question.
    :param asked_at: When it was first seen, in seconds since 1970.
    :param stage: Its stage.
    :param changed_at: When it reached this stage, in seconds since 1970.
    :param waited: Seconds that it waited for someone's answer.
    :param is_shown: True if the form of the Airflow task shows this question rather than an earlier one.
    :param form_id: The form that asked: the id of its task instance, which changes with each try.
    :param attempts: How many times sending the reply was attempted.
    :param reply: The reply, or None.
    """

    number: int
    text: str
    fingerprint: str
    asked_at: Seconds
    stage: Stage = Stage.ASKED
    changed_at: Seconds = 0.0
    waited: Seconds = 0.0
    is_shown: bool = True
    form_id: str = ""
    attempts: int = 0
    reply: Reply | None = None

    @property
    def id(self) -> str:
        """The id of this question, unique among all questions."""
        return f"{self.number}-{self.fingerprint}"

    def is_of(self, task: AgentTask) -> bool:
        """Return True if the agent task awaits the answer to this question."""
        return task.status is TaskState.AWAITING_INPUT and build_fingerprint(task) == self.fingerprint

    def seconds_waited(self, now: float, since: float = 0.0) -> float:
        """Return the seconds after ``since`` that it has spent waiting for someone's answer."""
        ended_at = now if self.stage is Stage.ASKED else self.asked_at + self.waited
        return max(0.0, ended_at - max(self.asked_at, since))

    def move(self, stage: Stage, now: float) -> Question:
        """Return the question at its next stage."""
        attempts = self.attempts + (stage is Stage.SENDING)
        return replace(self, stage=stage, changed_at=now, waited=self.seconds_waited(now), attempts=attempts)

    def answer(self, reply: Reply, now: float) -> Question:
        """Return the question with its reply, which is not sent yet."""
        return replace(self.move(Stage.ANSWERED, now), reply=reply, attempts=0)

    def to_json(self) -> dict[str, Any]:
        """Return the question as plain JSON."""
        return {**asdict(self), "stage": self.stage.value}


@dataclass(frozen=True)
class Questions:
    """All questions of one agent task, the newest last."""

    items: tuple[Question, ...] = field(default=())

    @property
    def last(self) -> Question | None:
        """The newest question, or None."""
        return self.items[-1] if self.items else None

    def require_last(self) -> Question:
        """Return the newest question; the caller knows that there is one."""
        return self.items[-1]

    @property
    def stop_decision(self) -> Reply | None:
        """The decision to stop the agent, with its user and time; None if nobody made one."""
        reply = self.last.reply if self.last else None
        return reply if reply and reply.chosen_option == STOP else None

    @property
    def last_change(self) -> float:
        """When something last happened to a question, in seconds since 1970; 0.0 if none was asked."""
        return self.last.changed_at if self.last else 0.0

    @property
    def is_asking(self) -> bool:
        """True while the newest question waits for someone's answer."""
        return self.last is not None and self.last.stage is Stage.ASKED

    @property
    def is_unsettled(self) -> bool:
        """True until the outcome of the newest question is known."""
        is_under_way = self.last and self.last.stage in (Stage.ASKED, Stage.ANSWERED, Stage.SENDING)
        return bool(is_under_way) and not self.stop_decision

    def classify(self, task: AgentTask, now: float) -> Standing:
        """Return how the current question of the agent task relates to the earlier ones."""
        last = self.last
        if last is None or not last.is_of(task) or last.stage is Stage.DROPPED:
            return Standing.NEW
        if last.stage in (Stage.ASKED, Stage.ANSWERED):
            return Standing(last.stage.value)
        if now < last.changed_at + SETTLING_TIME:
            return Standing.SETTLING
        # The agent received a reply and shows the same question again: it asks again.
        return Standing.NEW if last.stage is Stage.SENT else Standing.UNHEARD

    def settle(self, task: AgentTask, now: float) -> Questions:
        """Return the questions, with the newest one settled if the agent task has moved on from it."""
        last = self.last
        # A task that is paused or in an unknown state may come back to its question.
        may_come_back = task.status in (TaskState.PAUSED, TaskState.UNKNOWN)
        if last is None or not self.is_unsettled or last.is_of(task) or may_come_back:
            return self
        return self.put(last.move(Stage.SENT if last.stage is Stage.SENDING else Stage.DROPPED, now))

    def add(self, task: AgentTask, now: float) -> Questions:
        """Return the questions with the current question of the agent task added."""
        number = self.last.number + 1 if self.last else 1
        question = Question(
            number, (task.question or "")[:MAX_TEXT], build_fingerprint(task), asked_at=now, changed_at=now
        )
        return Questions((*self.items, question)[-MAX_QUESTIONS:])

    def put(self, question: Question) -> Questions:
        """Return the questions with the newest one replaced by this."""
        return Questions((*self.items[:-1], question))

    def may_answer_automatically(self, asked: Question) -> bool:
        """Return False if the agent has repeated this question after too many automatic replies in a row."""
        count = 0
        for question in reversed([item for item in self.items if item.number < asked.number]):
            is_automatic = question.reply and question.reply.answered_by["id"] in (REPLY_ID, DEFAULT_ID)
            if question.text != asked.text or not is_automatic:
                break
            count += 1
        return count < MAX_AUTOMATIC_REPLIES

    def seconds_waited(self, since: float, now: float) -> float:
        """Return the seconds after ``since`` that questions have spent waiting for someone's answer."""
        return sum(question.seconds_waited(now, since) for question in self.items)

    def list_answers(self) -> list[dict[str, Any]]:
        """Return the answers with their users and times, as plain JSON."""
        return [
            {
                "number": question.number,
                "question_id": question.id,
                "question": question.text,
                "chosen_option": question.reply.chosen_option,
                "reply": question.reply.text,
                "answered_by": dict(question.reply.answered_by),
                "answered_at": question.reply.answered_at,
                "sent": question.stage is Stage.SENT,
            }
            for question in self.items
            if question.reply
        ]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the questions as plain JSON."""
        return [question.to_json() for question in self.items]

    @classmethod
    def from_json(cls, stored: Any) -> Questions:
        """Return the stored questions; raises msgspec.ValidationError for anything else."""
        return cls(msgspec.convert(stored, tuple[Question, ...]))


def build_fingerprint(task: AgentTask) -> str:
    """Return a fingerprint that distinguishes the question of an agent task from others."""
    steps = task.progress.steps_completed if task.progress else None
    return hashlib.sha256(json.dumps([task.task_id, task.question, steps]).encode()).hexdigest()[:16]
