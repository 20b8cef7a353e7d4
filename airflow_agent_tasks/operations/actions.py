"""What people on call can do to an agent task: send it a message, pause, resume or stop it."""

from __future__ import annotations

import logging

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.airflow_compat.audit_log import write_audit_log
from airflow_agent_tasks.airflow_compat.marked_failed import mark_failed
from airflow_agent_tasks.airflow_compat.submission_rows import SubmissionRow
from airflow_agent_tasks.airflow_compat.xcom_rows import note_end, write_status
from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.stop import describe_stop
from airflow_agent_tasks.operations.description import ACTIONS
from airflow_agent_tasks.operations.stop import stop_if_active
from airflow_agent_tasks.text import shorten

log = logging.getLogger(__name__)


def read_agent_task(row: SubmissionRow, hook: AgentTaskHook | None = None) -> AgentTask:
    """
    Return the agent task of a submission as its service describes it now, without its result.

    Makes a single attempt, because someone waits for it.

    :param hook: The hook of its connection; default: a new one.
    :raises AgentTaskError: if the record names none, or the service rejected the request or is unreachable.
    """
    task_id, agent_id = _read_ids(row)
    return (hook or _find_hook(row)).get_task(task_id, agent_id, retries=False, has_result=False)


def act(row: SubmissionRow, action: str, *, user: str, message: str | None = None) -> str:
    """
    Do something to the agent task of a submission, and note it in Airflow's audit log.

    ``stop`` also marks the Airflow task as failed, if it has not ended: otherwise its next try would start
    another agent task, or it would wait for one that is only paused.

    :param action: One of ``ACTIONS``.
    :param user: The name of the user, for the audit log.
    :param message: The text for the agent; for ``message`` only.
    :return: What happened, as a sentence.
    :raises AgentTaskError: if the service does not support it, rejected it or is unreachable.
    """
    if action not in ACTIONS:
        raise AgentTaskArgumentError(
            f"Unknown action {shorten(action, 40)!r}; use one of: {', '.join(ACTIONS)}."
        )
    task_id, agent_id = _read_ids(row)
    if not row.is_open:  # its Airflow task may have begun another life
        raise AgentTaskError(f"Agent task {task_id} has already ended.")
    if action == "resume" and row.has_ended:
        raise AgentTaskArgumentError(
            f"Nothing waits for agent task {task_id} any more, so it is not resumed."
        )
    hook = _find_hook(row)
    if (needed := ACTIONS[action]) is not None:
        hook.dialect.require(needed)
    details: dict[str, str] = {"agent_task_id": task_id, "conn_id": hook.conn_id}
    if message:  # not its text, which may be a password that the agent has asked for
        details["message_characters"] = str(len(message))
    write_audit_log(f"agent_task.{action}", row, user, details)
    if action == "stop":
        task, happened = _stop(row, hook, task_id, agent_id)
    elif action == "message":
        task = hook.send_message(task_id, message or "", agent_id)
        happened = f"Sent the message to agent task {task_id}."
    else:
        call = hook.pause_task if action == "pause" else hook.resume_task
        task = call(task_id, agent_id)
        happened = f"The service accepted the {action} of agent task {task_id}: {task}."
    _note(row, task)
    return happened


def _note(row: SubmissionRow, task: AgentTask) -> None:
    try:
        (note_end if task.is_terminal else write_status)(row.scope, task)
    except Exception as error:  # the action was carried out, and must not be repeated
        log.warning("XCom does not show that %s is %s: %r", row, task.status, error)


def _stop(
    row: SubmissionRow, hook: AgentTaskHook, task_id: str, agent_id: str | None
) -> tuple[AgentTask, str]:
    # Marked first: a cancelled agent task would resume its Airflow task, which might start another one.
    marked = ""
    try:
        if not row.has_ended and mark_failed(row):
            marked = " Its Airflow task was marked failed."
    except AgentTaskError as error:
        marked = f" {error} Its next try may start another agent."
    try:
        task, _ = stop_if_active(hook, task_id, agent_id)
    except AgentTaskError as error:
        error.args = (f"Agent task {task_id} may still be running: {error}{marked}",)
        raise
    if not task.is_stopped:
        raise AgentTaskError(f"The service accepted the stop, but the agent {describe_stop(task)}.{marked}")
    return task, f"Agent task {task_id} {describe_stop(task)}.{marked}"


def _read_ids(row: SubmissionRow) -> tuple[str, str | None]:
    if row.record is None or row.record.task_id is None:
        raise AgentTaskError(f"The record of {row} names no agent task.")
    return row.record.task_id, row.record.agent_id


def _find_hook(row: SubmissionRow) -> AgentTaskHook:
    if row.record is None or not row.record.conn_id:
        raise AgentTaskError(f"The record of {row} does not name its connection.")
    return find_hook(row.record.conn_id)
