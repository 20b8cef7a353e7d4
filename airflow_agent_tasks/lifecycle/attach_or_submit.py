"""
Attach or submit: at the start of every try, find the agent task of an earlier try or start one.

A retry continues the agent task of the earlier try. A clear means "start over": the earlier agent task is
stopped if it still runs, and then a new one is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskBudgetError,
    AgentTaskError,
    AgentTaskNotFoundError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle.callback import ask_for_callback, is_called_back
from airflow_agent_tasks.lifecycle.commands import (
    FindService,
    Flow,
    GetTask,
    ReadClock,
    StartTask,
    info,
    warn_on_failure,
    warning,
)
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.intended_start import IntendedStart
from airflow_agent_tasks.lifecycle.measurements import Count, measure_start
from airflow_agent_tasks.lifecycle.open_stream import OpenStream
from airflow_agent_tasks.lifecycle.slots import wait_for_slot
from airflow_agent_tasks.lifecycle.stop import stop_and_look
from airflow_agent_tasks.lifecycle.stream_commands import StreamTask
from airflow_agent_tasks.lifecycle.submission_record import Submission, build_idempotency_key
from airflow_agent_tasks.services.base import Capability
from airflow_agent_tasks.services.event_text import SentenceJoiner
from airflow_agent_tasks.services.start_fields import read_rendered
from airflow_agent_tasks.services.usage import list_passed

STATES_IN_WORDS = {
    TaskState.QUEUED: "still queued",
    TaskState.RUNNING: "still running",
    TaskState.PAUSED: "paused by someone",
    TaskState.AWAITING_INPUT: "awaiting input",
    TaskState.UNKNOWN: "still running",
}


def attach_or_submit(execution: Execution, found: Submission | None) -> Flow[AgentTask]:
    """
    Return the agent task of this try, found or newly started.

    :param found: The record that an earlier try left, or None.
    :raises AgentTaskUncertainError: if a start may have been carried out and must not be repeated.
    :raises AgentTaskError: if the service rejected the start, or the state store cannot be used.
    """
    service = yield from FindService()
    if execution.settings.stream:
        service.require(Capability.STREAM)
    start = IntendedStart(
        execution, service, read_rendered(service.start_fields, execution.settings.start_fields)
    )
    if found is None:
        return (yield from _submit(start))
    if found.is_from_before_clear(execution.task_try.max_tries):
        if not found.is_undelivered:
            return (yield from _start_over(start, found))
        # The user has made room for the result, and cleared the task to get it.
        yield from info("The result of %s was not delivered before the clear; taking it now.", found.task_id)
        found = replace(found, max_tries=execution.task_try.max_tries)
        yield from _record(start, found)
    started = start.locate(found)
    if started is None:
        return (yield from _repeat(start, found))
    return (yield from _attach(start, found, started))


def _submit(start: IntendedStart) -> Flow[AgentTask]:
    if start.execution.submission:
        # What it names has ended or is to be replaced: it must not count as active while this task waits.
        yield from start.execution.drop()
    yield from wait_for_slot(start.execution)
    key = start.fields.get("idempotency_key") or build_idempotency_key(
        start.execution.task_try.owner, start.fields
    )
    submission = start.build_submission(str(key))
    yield from start.execution.save(submission)
    try:
        task = yield from _send(start, submission, streams=start.execution.settings.stream)
        _require_new(task)
    except AgentTaskUncertainError:
        raise
    except AgentTaskError:
        # Nothing was started; an intent left here would mislead the next try.
        yield from start.execution.drop()
        raise
    return task


def _require_new(task: AgentTask) -> None:
    # Only possible with a key that the user set; waiting for a paused task would never end.
    if task.reused and task.status is TaskState.PAUSED:
        raise AgentTaskArgumentError(
            f"The idempotency_key belongs to {task}, which was stopped earlier, so no new agent task was "
            "started. Use another key for each try, for example with {{ ti.try_number }}, or leave it out."
        )


def _send(start: IntendedStart, submission: Submission, *, streams: bool = False) -> Flow[AgentTask]:
    agent_id = start.execution.settings.agent_id
    keyed = start.service.put_idempotency_key(start.fields, submission.idempotency_key)
    fields, submission = yield from ask_for_callback(start.execution, start.service, keyed, submission)
    try:
        if streams:
            task = yield from _start_with_stream(start, fields)
        else:
            task = yield from StartTask(agent_id, fields)
    except AgentTaskUncertainError as error:
        if start.is_idempotent:
            # The next try sends the same key, and so gets the agent task of this start, if there is one.
            error.is_final = False
            raise
        yield from warning("%s %s", error, start.describe_search(submission))
        if not start.resubmits:
            raise
        yield from warning("Submitting again, because on_uncertain_submit is 'resubmit'.")
        task = yield from _resend(agent_id, fields)
    started = StartedTask(task.task_id, task.agent_id, (yield from ReadClock()))
    yield from start.execution.adopt(started)
    # An agent task from an earlier start calls the URL of that start, or has already called it.
    calls_back = submission.is_called_back and not task.reused
    yield from _record(start, replace(submission.with_task(started), is_called_back=calls_back))
    yield from measure_start(task)
    yield from info("%s %s", "Already started:" if task.reused else "Started", task)
    return task


def _start_with_stream(start: IntendedStart, fields: Mapping[str, Any]) -> Flow[AgentTask]:
    """Start the agent task through its stream or, with the same key, without it; never twice."""
    execution, agent_id = start.execution, start.execution.settings.agent_id
    execution.stream = None
    try:
        task = yield from StreamTask(agent_id, fields)
    except AgentTaskUncertainError as error:
        yield from warning("%s Starting without the stream, with the same idempotency key.", error)
        return (yield from _resend(agent_id, fields))
    except AgentTaskError as error:
        if error.is_final:
            raise
        yield from warning("%s Starting without the stream, with the same idempotency key.", error)
        return (yield from StartTask(agent_id, fields))
    execution.stream = OpenStream(SentenceJoiner(execution.redact))
    if start.fields.get("idempotency_key"):
        # A user's own key may find an agent task that was stopped earlier, and no event says so.
        started = StartedTask(task.task_id, task.agent_id, (yield from ReadClock()))
        if seen := (yield from warn_on_failure(iter(GetTask(started)))):
            return replace(seen, reused=task.reused or seen.status is TaskState.PAUSED)
    return task


def _resend(agent_id: str | None, fields: Mapping[str, Any]) -> Flow[AgentTask]:
    try:
        return (yield from StartTask(agent_id, fields))
    except AgentTaskError as error:
        # Whatever happened to this submit, the first one may have been carried out.
        failure = AgentTaskUncertainError(f"{error} The first submit got no response.")
        failure.is_final = error.is_final and not isinstance(error, AgentTaskUncertainError)
        raise failure from None


def _record(start: IntendedStart, submission: Submission) -> Flow[None]:
    start.execution.submission = submission
    try:
        yield from start.execution.save(submission)
    except AgentTaskError as error:
        # Failing here would leave the agent task running with nothing waiting for it.
        yield from warning("%s If this worker is lost, a retry may not find the agent task.", error)


def _repeat(start: IntendedStart, found: Submission) -> Flow[AgentTask]:
    lost = f"Try {found.try_number} sent a start, but was lost before the response came."
    if start.is_idempotent:
        yield from info("%s Sending it again with the same idempotency key.", lost)
        return (yield from _send(start, found))
    if start.resubmits:
        yield from warning("%s Submitting again, because on_uncertain_submit is 'resubmit'.", lost)
        return (yield from _submit(start))
    raise AgentTaskUncertainError(
        f"{lost} {start.service.title} has no idempotency keys, so a second start could do the work twice. "
        f"{start.describe_search(found)} Then clear this task to start over, or set "
        "on_uncertain_submit='resubmit'."
    )


def _attach(start: IntendedStart, found: Submission, started: StartedTask) -> Flow[AgentTask]:
    task_id, origin = started.agent_task_id, f"started by try {found.try_number}"
    # If a user chose to stop the agent, resume_questions does that.
    must_stop = found.is_stopping and found.questions.stop_decision is None
    try:
        task = yield from GetTask(started)
    except AgentTaskNotFoundError as error:
        start.check_gone(found, error)
        yield from warning("%s, %s, is gone; starting a new one. %s", task_id, origin, error)
        return (yield from _submit(start))
    except AgentTaskError as error:
        if not error.is_transient or must_stop:
            raise
        yield from warning("Attached to %s, %s; its state is not available now. %s", task_id, origin, error)
        yield from start.execution.adopt(started)
        yield from Count("attached")
        return AgentTask(start.service.service, task_id, TaskState.UNKNOWN, agent_id=started.agent_id)
    # If a user chose to stop the agent, no new one is started.
    is_settled = start.execution.is_settled_by(task) or found.questions.stop_decision is not None
    if task.status is TaskState.CANCELLED:
        # Nor if the trigger stopped it at its budget, and the worker was lost before it could say so.
        is_settled |= bool(list_passed(task, start.execution.settings.budget or {}))
    if task.status in (TaskState.FAILED, TaskState.CANCELLED) and not is_settled:
        yield from info("%s, %s, did not succeed; starting a new one.", task, origin)
        return (yield from _submit(start))
    if must_stop and not task.is_terminal:
        task = yield from stop_and_look(started, task)
        if task.status is not TaskState.COMPLETED:
            if found.is_over_budget:
                yield from start.execution.close(started, task)
                raise AgentTaskBudgetError(
                    f"{task}, {origin}, had passed its budget. Finished stopping it.",
                    task=task,
                    is_final=True,
                )
            yield from info("Finished stopping %s, %s; starting a new one.", task, origin)
            return (yield from _submit(start))
    yield from start.execution.adopt(started)
    yield from Count("attached")
    yield from info("Attached to %s, %s, %s", task_id, origin, STATES_IN_WORDS.get(task.status, "ended"))
    if found.on_kill_policy != start.on_kill_policy:
        yield from _record(start, replace(found, on_kill_policy=start.on_kill_policy))
    return task


def _start_over(start: IntendedStart, found: Submission) -> Flow[AgentTask]:
    lost = f"The start of try {found.try_number}, before the clear, got no response."
    old = start.locate(found)
    if old is None and start.is_idempotent:
        # It may never have arrived: then this starts a new agent.
        yield from wait_for_slot(start.execution)
        yield from info("%s Sending it again with the same idempotency key, to find its agent task.", lost)
        task = yield from _send(start, found)
        old = start.execution.started
        if not task.reused:  # the earlier start never arrived; this is the new agent task
            calls_back = yield from is_called_back(start.execution)
            submission = replace(start.build_submission(found.idempotency_key), is_called_back=calls_back)
            yield from _record(start, submission.with_task(old))
            return task
    if old is None:
        yield from warning("%s %s", lost, start.describe_search(found))
    else:
        yield from _stop_earlier(start, found, old)
    return (yield from _submit(start))


def _stop_earlier(start: IntendedStart, found: Submission, old: StartedTask) -> Flow[None]:
    try_number = found.try_number
    try:
        task = yield from GetTask(old)
        if not task.is_terminal:
            task = yield from stop_and_look(old, task)
    except AgentTaskNotFoundError as error:
        start.check_gone(found, error)
        yield from info(
            "Starting over after a clear; %s of try %s is gone: %s", old.agent_task_id, try_number, error
        )
    else:
        yield from info("Starting over after a clear; the agent task of try %s is now %s", try_number, task)
