"""Attach or submit: at the start of every try, find the agent task of an earlier try or start one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.state_store import StartRecords
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskError,
    AgentTaskNotFoundError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.lifecycle.submission import StartRecord, build_idempotency_key
from airflow_agent_tasks.logger import Log
from airflow_agent_tasks.services.base import Capability

if TYPE_CHECKING:
    from airflow.sdk import Context

STATES_IN_WORDS = {
    TaskState.QUEUED: "still queued",
    TaskState.RUNNING: "still running",
    TaskState.PAUSED: "paused by somebody",
    TaskState.AWAITING_INPUT: "awaiting input",
    TaskState.UNKNOWN: "still running",
}


class AttachOrSubmit:
    """
    Sees to it that one Airflow task has one agent task, through retries and clears.

    A retry goes on with the agent task of the earlier try. A clear means "start over": what still runs of
    before is stopped, then a new one is started.

    :param hook: The service.
    :param context: The context of the try.
    :param log: Where each decision is told in one sentence.
    :param fields: The start fields.
    :param agent_id: The agent that is to run the task, on services that have agents.
    :param on_kill_policy: ``"stop"`` or ``"leave"``, for who ends the Airflow task elsewhere.
    :param on_uncertain_submit: ``"fail"`` or ``"resubmit"``, where a start was sent, no answer came, and the
        service has no idempotency keys.
    :param settles: Tells whether a failed agent task decides the Airflow task's end, so that no new one is
        started in its place.
    """

    def __init__(
        self,
        hook: AgentTaskHook,
        context: Context,
        log: Log,
        *,
        fields: Mapping[str, Any],
        agent_id: str | None,
        on_kill_policy: str,
        on_uncertain_submit: str,
        settles: Callable[[AgentTask], bool],
    ) -> None:
        self._hook = hook
        self._ti: Any = context["ti"]
        self._records = StartRecords(context)
        self._log = log
        self._fields = fields
        self._agent_id = agent_id
        self._on_kill_policy = on_kill_policy
        self._resubmits = on_uncertain_submit == "resubmit"
        self._settles = settles
        self._is_idempotent = Capability.IDEMPOTENT_START in hook.dialect.capabilities
        #: The record that was found, and the one that counts in the end.
        self.found: StartRecord | None = None
        self.record: StartRecord | None = None

    def run(self) -> tuple[StartedTask, AgentTask]:
        """
        Return the agent task of this try, attached to or newly started.

        :raises AgentTaskUncertainError: when a start may have been carried out and must not be repeated.
        :raises AgentTaskError: when the service refused, or the state store cannot be used.
        """
        self.found = self.record = record = self._records.read()
        if record is None:
            return self._submit()
        # A clear sets max_tries to the try number plus the retries, and nothing else changes it. Reckoning
        # the first try from the retries would fail once somebody edits them.
        if record.max_tries != self._ti.max_tries:
            return self._start_over(record)
        if record.task_id is None:
            return self._repeat(record)
        return self._attach(record, record.task_id)

    def _submit(self) -> tuple[StartedTask, AgentTask]:
        ti = self._ti
        # The id tells this task instance from one of the same names in another Airflow with the same key,
        # the try number one meant start from the next.
        owner = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number, ti.id)
        key = self._fields.get("idempotency_key") or build_idempotency_key(owner, self._fields)
        record = self._build_record(str(key))
        self._records.write(record)
        try:
            return self._require_new(*self._send(record))
        except AgentTaskUncertainError:
            raise
        except AgentTaskError:
            # Surely nothing was started; an intent left here would make the next try think otherwise.
            self._records.drop()
            raise

    def _require_new(self, started: StartedTask, task: AgentTask) -> tuple[StartedTask, AgentTask]:
        # Only under a key of the user's own; it would be waited for without an end.
        if task.reused and task.status is TaskState.PAUSED:
            raise AgentTaskArgumentError(
                f"A new agent task is meant, but idempotency_key finds {task}, which was stopped before. Let "
                "the key change with each try, for example by {{ ti.try_number }} in it, or leave it out."
            )
        return started, task

    def _build_record(self, key: str) -> StartRecord:
        conn_id, policy = self._hook.conn_id, self._on_kill_policy
        return StartRecord(
            key, self._ti.try_number, self._ti.max_tries, conn_id=conn_id, on_kill_policy=policy
        )

    def _send(self, record: StartRecord) -> tuple[StartedTask, AgentTask]:
        fields = self._hook.dialect.put_idempotency_key(self._fields, record.idempotency_key)
        try:
            task = self._hook.start_task(agent_id=self._agent_id, **fields)
        except AgentTaskUncertainError as error:
            if self._is_idempotent:
                # Under the same key the next try finds out what became of it.
                error.is_final = False
                raise
            self._log.warning("%s %s", error, self._describe_search(record))
            if not self._resubmits:
                raise
            self._log.warning("It is submitted again, as on_uncertain_submit says.")
            task = self._resend(fields)
        started = StartedTask(task.task_id, task.agent_id, time.time())
        self._note(record, started)
        self._log.info("%s %s", "Found, already started:" if task.reused else "Started", task)
        return started, task

    def _resend(self, fields: Mapping[str, Any]) -> AgentTask:
        try:
            return self._hook.start_task(agent_id=self._agent_id, **fields)
        except AgentTaskError as error:
            # Whatever became of this one, the submit before it may have been carried out.
            failure = AgentTaskUncertainError(f"{error} The submit before it was left without an answer.")
            failure.is_final = error.is_final and not isinstance(error, AgentTaskUncertainError)
            raise failure from None

    def _note(self, record: StartRecord, started: StartedTask) -> None:
        self.record = record.with_task(started.agent_task_id, started.agent_id, started.started_at)
        try:
            self._records.write(self.record)
        except AgentTaskError as error:
            # Failing here would leave the agent task without anybody who waits for it.
            self._log.warning("%s Should this worker be lost, a retry may not find the agent task.", error)

    def _repeat(self, record: StartRecord) -> tuple[StartedTask, AgentTask]:
        lost = f"Try {record.try_number} sent its start and was lost before the answer came."
        if self._is_idempotent:
            self._log.info("%s It is sent again under the same idempotency key.", lost)
            return self._send(record)
        if self._resubmits:
            self._log.warning("%s It is submitted again, as on_uncertain_submit says.", lost)
            return self._submit()
        raise AgentTaskUncertainError(
            f"{lost} {self._hook.dialect.title} has no idempotency key, so a second start could do the work "
            f"twice. {self._describe_search(record)} Then clear this task to start over, or set "
            "on_uncertain_submit='resubmit'."
        )

    def _attach(self, record: StartRecord, task_id: str) -> tuple[StartedTask, AgentTask]:
        started = StartedTask(task_id, record.agent_id, record.submitted_at)
        origin = f"started by try {record.try_number}"
        try:
            task = self._hook.get_task(task_id, record.agent_id)
        except AgentTaskNotFoundError as error:
            self._log.warning("%s, %s, is gone; a new one is started. %s", task_id, origin, error)
            return self._submit()
        except AgentTaskError as error:
            if not error.is_transient:
                raise
            self._log.warning("Attached to %s, %s, which cannot be seen just now. %s", task_id, origin, error)
            service = self._hook.dialect.service
            return started, AgentTask(service, task_id, TaskState.UNKNOWN, agent_id=record.agent_id)
        # Where a person chose to stop the agent, no other is started in its place.
        is_settled = self._settles(task) or record.questions.stop_decision is not None
        if task.status in (TaskState.FAILED, TaskState.CANCELLED) and not is_settled:
            self._log.info("%s, %s, did not succeed; a new one is started.", task, origin)
            return self._submit()
        self._log.info("Attached to %s, %s, %s", task_id, origin, STATES_IN_WORDS.get(task.status, "ended"))
        if record.on_kill_policy != self._on_kill_policy:
            self._note(replace(record, on_kill_policy=self._on_kill_policy), started)
        return started, task

    def _start_over(self, record: StartRecord) -> tuple[StartedTask, AgentTask]:
        lost = f"The start of try {record.try_number}, before the clear, was never answered."
        task_id, agent_id = record.task_id, record.agent_id
        if task_id is None and self._is_idempotent:
            self._log.info("%s It is sent again under its idempotency key.", lost)
            started, task = self._send(record)
            if not task.reused:
                return self._adopt(record, started), task
            task_id, agent_id = started.agent_task_id, started.agent_id
        if task_id is None:
            self._log.warning("%s %s", lost, self._describe_search(record))
        else:
            self._stop_of_before(task_id, agent_id, record.try_number)
        return self._submit()

    def _adopt(self, record: StartRecord, started: StartedTask) -> StartedTask:
        self._note(self._build_record(record.idempotency_key), started)
        return started

    def _stop_of_before(self, task_id: str, agent_id: str | None, try_number: int) -> None:
        try:
            task = self._hook.get_task(task_id, agent_id)
            if not task.is_terminal:
                task = self._hook.stop_task(task_id, agent_id)
        except AgentTaskNotFoundError as error:
            self._log.info("%s of try %s, before the clear, is gone: %s", task_id, try_number, error)
        else:
            self._log.info("Starting over after a clear; the agent task of try %s: %s", try_number, task)

    def _describe_search(self, record: StartRecord) -> str:
        return (
            f"Look into {self._hook.dialect.title} for a task with the metadata idempotency_key = "
            f"{record.idempotency_key!r}, and stop it if it runs."
        )
