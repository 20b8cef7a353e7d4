"""What a worker does about the questions of its agent task: have them answered, by program or by a person."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.exceptions import TaskAwaitingInput

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.airflow_compat.required_action import RequiredAction
from airflow_agent_tasks.airflow_compat.resume_guard import read_resume_guard
from airflow_agent_tasks.airflow_compat.state_store import StartRecords
from airflow_agent_tasks.errors import (
    AgentTaskCancelledError,
    AgentTaskTimeoutError,
)
from airflow_agent_tasks.lifecycle.auto_reply import ask_program, build_default_reply, find_fault, format_time
from airflow_agent_tasks.lifecycle.question_form import (
    MAX_SHOWN,
    Asking,
    clean,
    names_other_question,
    read_response,
)
from airflow_agent_tasks.lifecycle.questions import STOP, Question, Questions, Reply, Stage, Standing
from airflow_agent_tasks.lifecycle.submission import StartRecord
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.text import shorten
from airflow_agent_tasks.worker.send_replies import QuestionNotes, Replying

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_agent_tasks.operators.agent_task import AgentTaskOperator
    from airflow_agent_tasks.worker.driver import WorkerLeg

#: Seconds between two looks whether the agent has taken a reply in.
SETTLING_CHECK = 2.0
OTHER_PAGE = "it was given on a page that showed an earlier question."


class Conversation:
    """
    The questions of one agent task in one stay of its Airflow task on a worker.

    Each step is noted in the task state store before it is taken, so that whichever try comes next knows
    whether a reply was sent.

    :param leg: The stay.
    :param operator: Whose arguments count.
    :param context: The context of the try.
    :param record: What the state store holds, where it was read already.
    """

    def __init__(
        self, leg: WorkerLeg, operator: AgentTaskOperator, context: Context, record: StartRecord | None
    ) -> None:
        self._leg = leg
        self._operator = operator
        self._context = context
        self._ti: Any = context["ti"]
        self._log = operator.log
        self._notes = QuestionNotes(leg, StartRecords(context), record)
        self._replying = Replying(leg, self._notes, operator.log)
        self._form = RequiredAction(self._ti, operator.log)

    def take_over(self, found: StartRecord | None, task: AgentTask) -> None:
        """Go on where an earlier try stopped, or close the form that it left for another agent task."""
        last = found.questions.last if found else None
        if last is None or found is None:
            return
        if found.task_id == task.task_id:
            self._leg.xcoms.push_answers(found.questions)
            if decision := found.questions.stop_decision:
                self._stop(last, decision)
        elif last.stage is Stage.ASKED:
            self._form.close()

    def recall(self) -> None:
        """Read what is noted, so that :meth:`see` can settle it."""
        self._notes.peek()

    @property
    def is_unsettled(self) -> bool:
        """True while it is not known what becomes of the newest question of this stay."""
        return self._notes.is_read and self._notes.read().is_unsettled

    def seconds_waited(self, since: float) -> float:
        """Return for how many seconds persons were waited for since a moment."""
        return self._notes.peek().seconds_waited(since, time.time())

    def see(self, task: AgentTask) -> None:
        """Note what became of the newest question, once the agent has gone on from it."""
        noted = self._notes.read() if self._notes.is_read else Questions()
        before, questions = noted.last, noted.settle(task, time.time())
        if before is None or questions is noted:
            return
        self._notes.put(questions)
        if before.stage is Stage.ASKED:
            self._log.info("Question %s was answered or withdrawn elsewhere: %s", before.number, task)
            self._form.close()
        elif before.stage is Stage.ANSWERED:
            self._log.warning(
                "The reply to question %s was not sent: the agent no longer asks it. %s", before.number, task
            )
        else:
            self._log.info("The reply to question %s has arrived: %s", before.number, task)

    def meet(self, task: AgentTask) -> Decision | None:
        """
        Answer the question at which the agent task stands, or park the Airflow task until a person has.

        :return: What is seen of the agent task after that; None where nobody here may answer.
        :raises TaskAwaitingInput: to park.
        """
        asks_persons = self._operator.on_awaiting_input == "ask"
        if not asks_persons and self._operator.reply is None:
            return None
        questions = self._notes.read()
        standing = questions.judge(task, time.time())
        if standing is Standing.SETTLING:
            time.sleep(SETTLING_CHECK)
            return self._leg.check()
        self._leg.xcoms.push(task)
        if standing is Standing.NEW:
            questions = questions.add(task, time.time())
            reply = ask_program(self._operator.reply, task.question or "", self._log, clock=time.time)
            if reply is None:
                return self._ask_person(task, questions) if asks_persons else None
            self._notes.put(questions.put(questions.require_last().answer(reply, time.time())))
        elif standing is Standing.ASKED:
            return self._await_person(task, questions.require_last()) if asks_persons else None
        elif standing is Standing.UNHEARD:
            self._log.warning(
                "The reply to question %s was sent and no answer came; the agent still asks, so it is sent "
                "again.",
                self._notes.read_last().number,
            )
        return self._replying.send()

    def take(self, event: Any, question_id: str | None) -> Decision:
        """Go on after the Airflow task was parked: with an answer, or because it is time to look again."""
        question, response = self._notes.read().last, read_response(event)
        if question is None or question.stage is not Stage.ASKED or question_id not in (question.id, None):
            if response:
                self._log.warning("An answer came for a question that is no longer open; it is not sent.")
            return self._leg.check(retries=True)
        if response is None:
            decision = self._leg.check(retries=True)
            if not (decision.task and question.is_of(decision.task) and self._is_overdue(question)):
                return decision
            # Somebody may have answered in the last moment.
            event = self._form.close()
            response = read_response(event) or build_default_reply(
                self._operator.input_default, now=time.time()
            )
        if response is None:
            return self._give_up(question)
        is_for_other = bool(event) and names_other_question(event, question.id)
        if response.chosen_option == STOP and not is_for_other:
            return self._stop(question, response)
        fault = OTHER_PAGE if is_for_other else find_fault(response)
        if fault:
            return self._ask_again(question, fault)
        self._notes.put_last(question.answer(response, time.time()))
        return self._leg.check(retries=True)

    def _await_person(self, task: AgentTask, question: Question) -> Decision:
        # Looked up here, because parking beside an answer resumes the task at once, which is too soon.
        event = self._form.read()
        if read_response(event):
            return self.take(event, None)
        asking = self._describe(task, question)
        if event:  # a worker was lost after it had closed the form
            self._show(asking, reopen=True)
        elif not question.is_shown and self._form.show(asking, self._operator.assigned_users):
            self._notes.put_last(replace(question, is_shown=True))
        return self._park(question)

    def _ask_person(self, task: AgentTask, questions: Questions) -> Decision:
        question = questions.require_last()
        self._log.info(
            "Question %s of the agent:\n%s", question.number, clean(task.question or "", MAX_SHOWN)
        )
        is_shown = self._show(self._describe(task, question))
        # Only now: an answer that is found in the form by a later try is then surely one to this question.
        self._notes.put(questions.put(replace(question, is_shown=is_shown)))
        for notifier in self._operator.notifiers:
            try:
                notifier(cast("Context", {**self._context, "question": task.question}))
            except Exception as error:
                self._log.warning("A notifier failed, the question stays asked: %r", error)
        # Who was told may have answered already.
        return self._await_person(task, question) if self._operator.notifiers else self._park(question)

    def _show(self, asking: Asking, *, reopen: bool = False) -> bool:
        """Open the form, and tell whether it shows this very question."""
        users = self._operator.assigned_users
        is_shown = self._form.show(asking, users, reopen=reopen)
        if not is_shown:
            self._form.make(asking, users)
        return is_shown

    def _describe(self, task: AgentTask, question: Question, notice: str = "") -> Asking:
        dialect = self._operator.hook.dialect
        return Asking(
            number=question.number,
            question_id=question.id,
            task=_redact(task),
            title=dialect.title,
            instruction=str(redact(getattr(self._operator, dialect.instruction_field, ""))),
            log_url=self._ti.log_url,
            notice=notice,
        )

    def _park(self, question: Question) -> NoReturn:
        seconds = self._operator.input_recheck_interval
        if self._operator.input_timeout is not None:
            seconds = min(seconds, question.asked_at + self._operator.input_timeout - time.time())
        raise TaskAwaitingInput(
            method_name="take_answer",
            kwargs={"question_id": question.id},
            timeout=timedelta(seconds=max(seconds, read_resume_guard())),
        )

    def _ask_again(self, question: Question, fault: str) -> Decision:
        decision = self._leg.check(retries=True)
        if decision.task and question.is_of(decision.task):
            self._log.warning("The answer to question %s is given back: %s", question.number, fault)
            notice = f"**The last reply, given at {format_time(time.time())}, was not sent: {fault}**"
            self._show(self._describe(decision.task, question, notice), reopen=True)
            self._park(question)
        return decision

    def _is_overdue(self, question: Question) -> bool:
        limit = self._operator.input_timeout
        return limit is not None and time.time() >= question.asked_at + limit

    def _give_up(self, question: Question) -> Decision:
        # The form is closed. Should a next try find the agent at this question, it asks anew.
        self._notes.put_last(question.move(Stage.DROPPED, time.time()))
        task, fate = self._leg.stop() if self._operator.on_timeout == "stop" else (None, self._leg.leave())
        if task and task.status is TaskState.COMPLETED:
            return Decision(Verdict.REACHED, task=task)
        raise AgentTaskTimeoutError(
            f"Nobody answered question {question.number} of {self._leg.name} within the input_timeout of "
            f"{self._operator.input_timeout:g} s: {shorten(question.text, 500)!r}. {fate}"
        )

    def _stop(self, question: Question, decision: Reply) -> Decision:
        # Noted first: a worker that is lost in between would leave the next try to go on.
        self._notes.put_last(question.answer(decision, time.time()))
        task, fate = self._leg.stop()
        if task and task.status is TaskState.COMPLETED:
            return Decision(Verdict.REACHED, task=task)
        who = decision.answered_by
        raise AgentTaskCancelledError(
            f"{who['name']} (id {who['id']}) chose {STOP!r} at {decision.answered_at}, when asked question "
            f"{question.number}. {fate}",
            # A next try stops what could not be stopped.
            is_final=task is not None,
        )


def _redact(task: AgentTask) -> AgentTask:
    """Return the agent task with the secrets hidden that Airflow knows of."""
    progress = task.progress
    if progress and progress.current_step:
        progress = replace(progress, current_step=str(redact(progress.current_step)))
    return replace(task, question=str(redact(task.question or "")), progress=progress)
