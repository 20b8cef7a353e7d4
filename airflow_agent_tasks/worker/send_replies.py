"""How a reply reaches the agent exactly once, although its worker may die at any moment."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from airflow_agent_tasks.airflow_compat.state_store import StartRecords
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRejectedError, AgentTaskUncertainError
from airflow_agent_tasks.hooks.agent_task import HAS_ENDED
from airflow_agent_tasks.lifecycle.questions import Question, Questions, Reply, Stage
from airflow_agent_tasks.lifecycle.submission import StartRecord
from airflow_agent_tasks.lifecycle.wait_policy import Decision

if TYPE_CHECKING:
    from airflow_agent_tasks.logger import Log
    from airflow_agent_tasks.worker.driver import WorkerLeg

#: How often a reply is sent that surely, or to all appearances, does not arrive.
MAX_ATTEMPTS = 5


class QuestionNotes:
    """
    The questions of one agent task, as the task state store keeps them; what is noted is in XCom too.

    :param leg: The stay on the worker.
    :param records: Where they are kept.
    :param record: What is there, where it was read already.
    """

    def __init__(self, leg: WorkerLeg, records: StartRecords, record: StartRecord | None) -> None:
        self._leg = leg
        self._records = records
        self._record = record

    @property
    def is_read(self) -> bool:
        """False as long as nobody in this stay had to know them."""
        return self._record is not None

    def read(self) -> Questions:
        """Return the questions; raises AgentTaskError where the store does not have them any more."""
        return self._require().questions

    def peek(self) -> Questions:
        """Return the questions; none where there is no record, which only who asks cannot do without."""
        record = self._find()
        return record.questions if record else Questions()

    def read_last(self) -> Question:
        """Return the newest question, where there is one."""
        return self.read().require_last()

    def put(self, questions: Questions) -> None:
        """Note the questions."""
        self._record = replace(self._require(), questions=questions)
        self._records.write(self._record)
        self._leg.xcoms.push_answers(questions)

    def put_last(self, question: Question) -> None:
        """Note what became of the newest question."""
        self.put(self.read().put(question))

    def _find(self) -> StartRecord | None:
        self._record = self._record or self._records.read()
        return self._record

    def _require(self) -> StartRecord:
        if (record := self._find()) is None:
            raise AgentTaskError(
                f"Airflow's task state store holds no record of {self._leg.name} any more, so its questions "
                f"cannot be kept. {self._leg.describe_left(None)}"
            )
        return record


class Replying:
    """
    Sends the reply to the newest question.

    It is noted before the request that the reply is on its way, and after the answer that it arrived. Where a
    worker dies in between, or no answer comes, the agent itself tells: it still asks, or it has gone on.

    :param leg: The stay on the worker.
    :param notes: The questions.
    :param log: Where it is told what was sent.
    """

    def __init__(self, leg: WorkerLeg, notes: QuestionNotes, log: Log) -> None:
        self._leg = leg
        self._notes = notes
        self._log = log

    def send(self) -> Decision:
        """
        Send it, and return what is seen of the agent task then.

        :raises AgentTaskError: where the service refuses it, or it does not arrive in several attempts.
        """
        question = self._notes.read_last().move(Stage.SENDING, time.time())
        if question.attempts > MAX_ATTEMPTS:
            self._surrender(question)
        self._notes.put_last(question)
        reply = cast("Reply", question.reply)
        try:
            self._leg.tell(reply.text or "")
        except AgentTaskUncertainError as error:
            self._log.warning(
                "Whether the reply to question %s has arrived will be seen from what the agent does next. %s",
                question.number,
                error,
            )
        except AgentTaskError as error:
            return self._on_refusal(question, error)
        else:
            self._notes.put_last(question.move(Stage.SENT, time.time()))
            self._log.info("Sent the reply of %s to question %s.", reply.answered_by["name"], question.number)
        return self._leg.check()

    def _on_refusal(self, question: Question, error: AgentTaskError) -> Decision:
        # It surely was not taken: the next one who sees the agent at this question sends it.
        self._notes.put_last(question.move(Stage.ANSWERED, time.time()))
        decision = self._leg.check(retries=True)
        has_gone_on = decision.task is not None and not question.is_of(decision.task)
        is_late = isinstance(error, AgentTaskRejectedError) and error.status in HAS_ENDED and has_gone_on
        if not (error.is_transient or is_late):
            raise error
        self._log.warning("The reply to question %s was not taken. %s", question.number, error)
        return decision

    def _surrender(self, question: Question) -> None:
        # A next try begins to count anew.
        self._notes.put_last(replace(question, stage=Stage.ANSWERED, attempts=0))
        raise AgentTaskError(
            f"The reply to question {question.number} of {self._leg.name} did not arrive in {MAX_ATTEMPTS} "
            f"attempts. {self._leg.describe_left(None)}"
        )
