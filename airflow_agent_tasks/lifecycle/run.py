"""
The lifecycle of an agent task on the worker, from the first try of its Airflow task to the last.

A try begins with ``run``. To wait in the triggerer or for someone's answer, it leaves the worker. It resumes
with one of the ``resume_…`` functions, in another process that has only the submission record and a few
arguments. Each function returns an ``Outcome``, raises, defers or parks.
"""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.answer_questions import answer_question, resume_questions, take_answer
from airflow_agent_tasks.lifecycle.artifacts import keep_result
from airflow_agent_tasks.lifecycle.attach_or_submit import attach_or_submit
from airflow_agent_tasks.lifecycle.callback import is_called_back, relies_on_callback
from airflow_agent_tasks.lifecycle.check_status import check, check_after
from airflow_agent_tasks.lifecycle.commands import (
    Defer,
    FindService,
    Flow,
    PushId,
    PushTask,
    ReadClock,
    Sleep,
    info,
    warning,
)
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.follow_stream import end_stream, follow_stream
from airflow_agent_tasks.lifecycle.outcome import Outcome, resolve
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict

NO_RECORD = "Airflow's task state store no longer names the agent task that this task waits for."


def run(execution: Execution) -> Flow[Outcome]:
    """Attach to the agent task of an earlier try or start one; wait if ``wait_for_completion`` is set."""
    found = yield from execution.load()
    task = yield from attach_or_submit(execution, found)
    execution.last_task = task
    yield from resume_questions(execution, found, task)
    yield from PushId(execution.started)
    if not execution.settings.wait_for_completion:
        yield from PushTask(task)
        return Outcome((yield from keep_result(execution, task)))
    decision = yield from _look(execution, task, is_new=found is None or found.task_id != task.task_id)
    return (yield from _finish(execution, decision))


def _look(execution: Execution, task: AgentTask, *, is_new: bool) -> Flow[Decision]:
    """Decide for the first time, after a status check unless a callback makes it superfluous."""
    if is_new and execution.settings.deferrable and (yield from is_called_back(execution)):
        decision = (yield from execution.require_wait()).on_state(task, now=(yield from ReadClock()))
        if decision.waits:
            yield from PushTask(task)
            return decision
    # The worker makes the first check: a trigger that fires at once can fail its task.
    return (yield from check(execution))


def resume_after_wait(
    execution: Execution,
    started: StartedTask,
    reported: Decision,
    *,
    has_questions: bool,
    is_pushed: bool = False,
) -> Flow[Outcome]:
    """
    Resume after the trigger's event.

    :param started: The agent task.
    :param reported: The trigger's decision; the state of the agent task is fetched again.
    :param has_questions: True if the agent has asked questions, one of which may have been settled since.
    :param is_pushed: True if XCom has the agent task's id. Default False: unknown.
    """
    yield from execution.adopt(started)
    if not is_pushed:
        yield from PushId(started)
    # Without questions or a stream, the record has nothing that this execution needs.
    is_needed = has_questions or execution.settings.stream
    submission = (yield from execution.load()) if is_needed else None
    if submission and submission.started and submission.task_id == started.agent_task_id:
        # The trigger counts from the last reply, but the limits count from the start.
        execution.last_started = submission.started
    if reported.verdict is Verdict.ERROR:  # a rejection: one response is proof enough
        return (yield from resolve(execution, reported))
    return (yield from _finish(execution, (yield from check_after(execution, reported))))


def resume_after_callback(execution: Execution) -> Flow[Outcome]:
    """Resume because the service has called; nothing but its answer to a status check counts."""
    if (yield from _recall(execution)) is None:
        raise AgentTaskError(NO_RECORD)
    yield from info("The service called back. Checking agent task %s.", execution.started.agent_task_id)
    return (yield from _finish(execution, (yield from check(execution, retries=True))))


def resume_without_event(
    execution: Execution, reason: AgentTaskError, verdict: Verdict | None = None
) -> Flow[Outcome]:
    """
    Resume after a deferral that ended without an event from the trigger.

    :param reason: What happened; raised if the record names no agent task either.
    :param verdict: The decision if the agent task still runs; None to keep waiting.
    """
    started = yield from _recall(execution)
    if started is None:
        raise reason
    yield from warning("%s Checking agent task %s.", reason, started.agent_task_id)
    if verdict is None:
        decision = yield from check(execution, retries=True)
    else:
        decision = yield from check_after(execution, Decision(verdict, error=reason))
    return (yield from _finish(execution, decision))


def resume_with_answer(execution: Execution, event: Any, question_id: str | None) -> Flow[Outcome]:
    """Resume a parked task, with someone's answer or to check whether the agent is still asking."""
    if (yield from _recall(execution)) is None:
        raise AgentTaskError(NO_RECORD)
    return (yield from _finish(execution, (yield from take_answer(execution, event, question_id))))


def _recall(execution: Execution) -> Flow[StartedTask | None]:
    submission = yield from execution.load()
    started = submission.started if submission else None
    if started:
        yield from execution.adopt(started)
        yield from PushId(started)
    return started


def _finish(execution: Execution, decision: Decision) -> Flow[Outcome]:
    """Wait and handle questions until the wait ends; then return the outcome or raise the failure."""
    while True:
        decision = yield from _wait(execution, decision)
        asking = decision.task if decision.asks else None
        answered = (yield from answer_question(execution, asking)) if asking else None
        if answered is None:
            return (yield from _resolve(execution, decision))
        decision = answered


def _resolve(execution: Execution, decision: Decision) -> Flow[Outcome]:
    # The stream last: keeping its transcript may take long, and the agent may have to be stopped.
    try:
        outcome = yield from resolve(execution, decision)
    except AgentTaskError:
        yield from end_stream(execution)
        raise
    execution.is_keeping_result = bool(execution.stream) and outcome.task.status is TaskState.COMPLETED
    yield from end_stream(execution)
    execution.is_keeping_result = False
    return outcome


def _wait(execution: Execution, decision: Decision) -> Flow[Decision]:
    """Wait on the worker, or in the triggerer if ``deferrable``, until the decision is not to wait."""
    while decision.waits:
        if execution.stream:
            decision = yield from follow_stream(execution, (yield from FindService()), decision)
            continue
        if execution.settings.deferrable:
            limit = yield from execution.find_limit()
            # After a failed check it polls: the call that led to the check does not come again.
            relies_on_call = decision.task is not None and (yield from relies_on_callback(execution))
            questions = execution.submission.questions if execution.submission else None
            seconds = execution.settings.callback_poll_interval if relies_on_call else decision.seconds
            yield from Defer(
                execution.started,
                execution.working_since,
                (yield from ReadClock()) + seconds,
                relies_on_call,
                limit[0] if limit else None,
                bool(questions and questions.last),
            )
        yield from Sleep(decision.seconds)
        decision = yield from check(execution)
    return decision
