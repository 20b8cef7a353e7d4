"""
Answers the agent's questions, with the operator's ``reply`` or by asking someone in the Airflow UI.

Each step is written to the submission record before it is taken, so the next try knows whether a reply was
sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskTimeoutError
from airflow_agent_tasks.lifecycle.auto_reply import build_default_reply, find_fault
from airflow_agent_tasks.lifecycle.check_status import check
from airflow_agent_tasks.lifecycle.commands import (
    CallReply,
    CloseForm,
    FindService,
    Flow,
    MakeForm,
    Notify,
    Park,
    PushQuestions,
    ReadClock,
    ReadForm,
    ShowForm,
    Sleep,
    info,
    warning,
)
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.follow_stream import end_stream
from airflow_agent_tasks.lifecycle.measurements import Count
from airflow_agent_tasks.lifecycle.question_form import (
    Asking,
    format_time,
    names_other_question,
    read_response,
)
from airflow_agent_tasks.lifecycle.question_log import (
    MAX_AUTOMATIC_REPLIES,
    STOP,
    Question,
    Questions,
    Reply,
    Stage,
    Standing,
)
from airflow_agent_tasks.lifecycle.send_reply import save_question, send_reply
from airflow_agent_tasks.lifecycle.stop import stop, stop_or_leave
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.text import quote_lines, shorten

#: Seconds between two status checks that show whether the agent has received a reply.
SETTLING_CHECK = 2.0
OTHER_QUESTION = "it answers an earlier question, which the form still showed."


def resume_questions(execution: Execution, found: Submission | None, task: AgentTask) -> Flow[None]:
    """Continue where an earlier try stopped, or close the form that it left for a previous agent task."""
    if found is None or (last := found.questions.last) is None:
        return
    if found.task_id == task.task_id:
        yield from PushQuestions(found.questions)
        if decision := found.questions.stop_decision:
            yield from _stop(execution, last, decision)
    elif last.stage is Stage.ASKED:
        yield from CloseForm()


def answer_question(execution: Execution, task: AgentTask) -> Flow[Decision | None]:
    """
    Answer the question of the agent task, or park the Airflow task until someone does.

    :return: The decision of the status check after that; None if neither ``reply`` nor a user may answer.
    """
    settings = execution.settings
    asks_people = settings.on_awaiting_input == "ask"
    if not asks_people and not settings.has_reply:
        yield from Count("questions")
        return None
    questions = yield from execution.require_questions()
    # Otherwise an agent that keeps asking would be answered forever.
    if (yield from execution.is_over_limit()):
        return Decision(Verdict.TIMEOUT, task=task)
    now = yield from ReadClock()
    standing = questions.classify(task, now)
    if standing is Standing.SETTLING:
        yield from Sleep(SETTLING_CHECK)
        return (yield from check(execution))
    if standing is Standing.NEW:
        questions = questions.add(task, now)
        yield from Count("questions")
        reply = yield from _reply_automatically(execution, task, questions)
        if reply is None:
            return (yield from _ask(execution, task, questions)) if asks_people else None
        answered = questions.require_last().answer(reply, (yield from ReadClock()))
        yield from execution.save_questions(questions.put(answered))
    elif standing is Standing.ASKED:
        last = questions.require_last()
        return (yield from _await_answer(execution, task, last)) if asks_people else None
    elif standing is Standing.UNHEARD:
        yield from warning(
            "The reply to question %s got no response, and the agent is still asking: sending the reply "
            "again.",
            questions.require_last().number,
        )
    return (yield from send_reply(execution))


def _reply_automatically(execution: Execution, task: AgentTask, questions: Questions) -> Flow[Reply | None]:
    if not execution.settings.has_reply:
        return None
    if not questions.may_answer_automatically(questions.require_last()):
        yield from warning(
            "The agent repeats its question after %s automatic replies in a row: the operator's reply "
            "function is no longer called.",
            MAX_AUTOMATIC_REPLIES,
        )
        return None
    return (yield from CallReply(task.question or ""))


def take_answer(execution: Execution, event: Any, question_id: str | None) -> Flow[Decision]:
    """Resume a parked Airflow task, with an answer or because it is time to check again."""
    questions = yield from execution.require_questions()
    question = questions.last
    response = read_response(event)
    if question is None or question.stage is not Stage.ASKED or question_id not in (question.id, None):
        if response:
            yield from warning("Did not send an answer, because its question is no longer open.")
        return (yield from check(execution, retries=True))
    if response is None:
        decision = yield from check(execution, retries=True)
        is_overdue = yield from _is_overdue(execution, question)
        if not (decision.task and question.is_of(decision.task) and is_overdue):
            return decision
        # Someone may have answered at the last moment.
        event = yield from CloseForm()
        response = read_response(event)
        if response is None and questions.may_answer_automatically(question):
            response = build_default_reply(execution.settings.input_default, now=(yield from ReadClock()))
    if response is None:
        return (yield from _give_up(execution, question))
    return (yield from _take_response(execution, question, event, response))


def _take_response(execution: Execution, question: Question, event: Any, response: Reply) -> Flow[Decision]:
    is_for_other = bool(event) and names_other_question(event, question.id)
    if response.chosen_option == STOP and not is_for_other:
        return (yield from _stop(execution, question, response))
    fault = OTHER_QUESTION if is_for_other else find_fault(response)
    if fault:
        return (yield from _ask_again(execution, question, fault))
    yield from save_question(execution, question.answer(response, (yield from ReadClock())))
    return (yield from check(execution, retries=True))


def _await_answer(execution: Execution, task: AgentTask, question: Question) -> Flow[Decision]:
    # Read here: parking while the form has an answer would resume the task at once, which is too soon.
    event: Mapping[str, Any] | None = yield from ReadForm(question.form_id)
    if read_response(event):
        return (yield from take_answer(execution, event, None))
    shown = _ask_in_own_form(execution, question, is_shown=True)
    # An event without a response: a worker was lost after it had closed the form.
    if event or question != shown:
        asking = yield from _describe(execution, task, question)
        if (yield from ShowForm(asking, reopen=bool(event))):
            yield from save_question(execution, shown)
    return (yield from _park(execution, question))


def _ask(execution: Execution, task: AgentTask, questions: Questions) -> Flow[Decision]:
    question = questions.require_last()
    yield from info("Question %s from the agent:\n%s", question.number, quote_lines(task.question or ""))
    is_shown = yield from _show((yield from _describe(execution, task, question)))
    # Saved only now, so that any answer a later try finds in the form is an answer to this question.
    asked = _ask_in_own_form(execution, question, is_shown=is_shown)
    yield from execution.save_questions(questions.put(asked))
    if not execution.settings.has_notifiers:
        return (yield from _park(execution, asked))
    yield from Notify(task.question)
    # Someone may have answered as soon as they were notified.
    return (yield from _await_answer(execution, task, asked))


def _ask_in_own_form(execution: Execution, question: Question, *, is_shown: bool) -> Question:
    """Return the question with this try's form; on Airflow 3.4 users cannot see an earlier try's form."""
    return replace(question, is_shown=is_shown, form_id=execution.task_try.task_instance_id)


def _show(asking: Asking, *, reopen: bool = False) -> Flow[bool]:
    """Open the form, and return whether it shows exactly this question."""
    is_shown = yield from ShowForm(asking, reopen=reopen)
    if not is_shown:
        yield from MakeForm(asking)
    return is_shown


def _describe(execution: Execution, task: AgentTask, question: Question, notice: str = "") -> Flow[Asking]:
    service = yield from FindService()
    settings, questions = execution.settings, (yield from execution.require_questions())
    is_default_sent = questions.may_answer_automatically(question)
    return Asking(
        number=question.number,
        question_id=question.id,
        task=task,
        title=service.title,
        # Empty after a resume of a decorated function, whose return value is not kept.
        instruction=str(settings.start_fields.get(service.instruction_field) or ""),
        log_url=execution.task_try.log_url,
        notice=notice,
        asked_at=question.asked_at,
        input_timeout=settings.input_timeout,
        input_default=settings.input_default if is_default_sent else None,
        on_timeout=settings.on_timeout,
    )


def _park(execution: Execution, question: Question) -> Flow[Decision]:
    settings = execution.settings
    seconds = settings.input_recheck_interval
    if settings.input_timeout is not None:
        seconds = min(seconds, question.asked_at + settings.input_timeout - (yield from ReadClock()))
    yield from end_stream(execution)
    return (yield from Park(question.id, seconds))


def _ask_again(execution: Execution, question: Question, fault: str) -> Flow[Decision]:
    decision = yield from check(execution, retries=True)
    if decision.task and question.is_of(decision.task):
        yield from warning("The answer to question %s was rejected: %s", question.number, fault)
        moment = format_time((yield from ReadClock()))
        notice = f"**The last reply, from {moment}, was not sent: {fault}**"
        asking = yield from _describe(execution, decision.task, question, notice)
        is_shown = yield from _show(asking, reopen=True)
        # Otherwise the rejected answer in the form of an earlier try would be read again.
        yield from save_question(execution, _ask_in_own_form(execution, question, is_shown=is_shown))
        return (yield from _park(execution, question))
    return decision


def _is_overdue(execution: Execution, question: Question) -> Flow[bool]:
    limit = execution.settings.input_timeout
    return limit is not None and (yield from ReadClock()) >= question.asked_at + limit


def _give_up(execution: Execution, question: Question) -> Flow[Decision]:
    # The form is closed. If the agent is still waiting on this question, the next try asks again.
    yield from save_question(execution, question.move(Stage.DROPPED, (yield from ReadClock())))
    task, fate = yield from stop_or_leave(execution)
    if task and task.status is TaskState.COMPLETED:
        return Decision(Verdict.REACHED, task=task)
    if execution.settings.input_default is not None:
        fate = f"input_default was already sent {MAX_AUTOMATIC_REPLIES} times in a row, the limit. {fate}"
    raise AgentTaskTimeoutError(
        f"Nobody answered question {question.number} of {execution.name} within the input_timeout of "
        f"{execution.settings.input_timeout:g} s: {shorten(question.text, 500)!r}. {fate}"
    )


def _stop(execution: Execution, question: Question, decision: Reply) -> Flow[Decision]:
    # Recorded first: if the worker is lost in between, the next try must stop the agent too.
    yield from save_question(execution, question.answer(decision, (yield from ReadClock())))
    task, fate = yield from stop(execution)
    if task and task.status is TaskState.COMPLETED:
        return Decision(Verdict.REACHED, task=task)
    user = decision.answered_by
    failure = AgentTaskCancelledError(
        f"{user['name']} (id {user['id']}) chose {STOP!r} at {decision.answered_at}, in reply to question "
        f"{question.number}. {fate}",
        task=task,
        # If stopping failed, the next try tries to stop the agent again.
        is_final=task is not None,
    )
    if failure.is_final:
        failure.retry_note = "Airflow does not retry the task: a user decided to stop the agent."
    raise failure
