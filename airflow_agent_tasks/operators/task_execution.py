"""The executions of an operator's task: the first one, each resume, the kill, and the cleanup."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from airflow_agent_tasks.airflow_compat.rendered_fields import StoresSetFields
from airflow_agent_tasks.airflow_compat.state_store import SubmissionStore
from airflow_agent_tasks.configuration.options import (
    ARTIFACTS_PATH,
    CALLBACK_POLL_INTERVAL,
    MAX_POLL_INTERVAL,
    MAX_XCOM_BYTES,
    MIN_POLL_INTERVAL,
)
from airflow_agent_tasks.configuration.reader import read_integer, read_number, read_text
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.commands import Flow
from airflow_agent_tasks.lifecycle.execution import TaskSettings
from airflow_agent_tasks.lifecycle.outcome import Outcome
from airflow_agent_tasks.lifecycle.run import (
    resume_after_callback,
    resume_after_wait,
    resume_with_answer,
    resume_without_event,
    run,
)
from airflow_agent_tasks.lifecycle.trigger_event import (
    is_callback,
    read_event,
    read_is_pushed,
    read_try_number,
)
from airflow_agent_tasks.lifecycle.wait_policy import Verdict
from airflow_agent_tasks.operators.lineage import LineageFacts, ReportsLineage
from airflow_agent_tasks.operators.links import list_unstored
from airflow_agent_tasks.operators.value_checks import read_artifacts_path, read_id
from airflow_agent_tasks.worker.driver import Callbacks, Driver

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

    from airflow_agent_tasks.airflow_compat.required_action import HITLUser


# Airflow's class first: with another one before it, Airflow's partial() gives mapped tasks None as inlets.
class RunsAgentTask(StoresSetFields, ReportsLineage):
    """Runs an agent task with the arguments of ``AgentTaskOperator``."""

    #: The hook of the service; this base class accepts the hook of any service.
    hook_class: ClassVar[type[AgentTaskHook]] = AgentTaskHook
    conn_id: str
    agent_id: str | None
    start_field_names: tuple[str, ...]
    max_outage: float
    input_recheck_interval: float
    input_timeout: float | None
    input_default: str | None
    wait_for_completion: bool
    stream: bool
    budget: Mapping[str, float] | None
    reply: Callable[[str], str | None] | None
    notifiers: Collection[BaseNotifier]
    assigned_users: Collection[HITLUser]
    artifacts_path: str | None
    max_xcom_bytes: int | None
    _driver: Driver | None = None
    _last_driver: Driver | None = None

    @cached_property
    def hook(self) -> AgentTaskHook:
        """The hook for the connection's type."""
        return find_hook(self.conn_id, self.hook_class)

    def execute(self, context: Context) -> Any:
        """Attach to the agent task of an earlier try or start one; wait if ``wait_for_completion`` is set."""
        return self._drive(context, run)

    def execute_complete(self, context: Context, event: Any, is_asked: bool = False) -> Any:
        """Resume after an event: get the agent task again, and return its result."""
        if is_callback(event):
            return self._drive(context, resume_after_callback)
        try:
            started, reported = read_event(event)
        except AgentTaskError as error:
            return self._drive(context, resume_without_event, error)
        is_pushed = read_is_pushed(event)
        return self._drive(
            context, resume_after_wait, started, reported, has_questions=is_asked, is_pushed=is_pushed
        )

    def take_answer(self, context: Context, event: Any, question_id: str | None = None) -> Any:
        """Resume a parked task, with someone's answer or to check whether the question is still open."""
        return self._drive(context, resume_with_answer, event, question_id)

    def take_agent_task_slot(self, context: Context, event: Any) -> Any:
        """Go on after waiting for a slot of the connection: now an agent task may be started."""
        return self._drive(context, run)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, even if it ended without an event from the trigger."""
        if self._was_cleared((next_kwargs or {}).get("event"), context):
            self.log.info("Starting over: the task was cleared while its last execution resumed.")
            return self.execute(context)
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            reason, verdict = "No triggerer reported the end of the wait in time.", Verdict.TIMEOUT
        except TaskDeferralError as error:
            # Deferring again could repeat forever; Airflow limits retries.
            reason, verdict = f"The trigger failed ({error}); see its log.", Verdict.ERROR
        return self._drive(context, resume_without_event, AgentTaskError(reason), verdict)

    def _was_cleared(self, event: Any, context: Context) -> bool:
        """
        Return whether the execution to resume belongs to a try from before a clear.

        If someone clears a task while a worker resumes it, Airflow resumes the next try there once more.
        """
        ti: Any = context["ti"]
        if (try_number := read_try_number(event)) is not None:
            return bool(try_number != ti.try_number)
        try:
            record = SubmissionStore(context).load()
        except AgentTaskError:  # the execution needs the record too, and says so
            return False
        return record is not None and record.is_from_before_clear(ti.max_tries)

    def on_kill(self) -> None:
        """Stop the agent task, unless ``on_kill_policy`` is "leave" or the next try will attach to it."""
        if self._driver is not None:
            self._driver.on_kill()

    def close_agent_task(self, context: Context) -> None:
        """Close the record of an agent task whose result Airflow has; called after success."""
        if self._last_driver:
            self._last_driver.finish_delivery()

    def describe_lineage(self) -> LineageFacts | None:
        """Return what OpenLineage's facet says about the last execution's agent task, or None."""
        execution = self._last_driver.execution if self._last_driver else None
        if execution is None or execution.last_task is None:
            return None
        return LineageFacts(execution.last_task, self.conn_id, execution.measurements)

    def _drive(
        self, context: Context, flow: Callable[..., Flow[Outcome]], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        callbacks = Callbacks(
            find_hook=lambda: self.hook,
            defer=self.defer,
            reply=self.reply,
            notifiers=self.notifiers,
            assigned_users=self.assigned_users,
        )
        self.operator_extra_links = list_unstored(self)
        settings = self._build_settings()
        self._driver = self._last_driver = driver = Driver(settings, callbacks, context, self.log)
        try:
            task = driver.run(flow(driver.execution, *args, **kwargs))
        finally:
            self._driver = None
        return task.to_json()

    def _build_settings(self) -> TaskSettings:
        names = [field.name for field in fields(TaskSettings)]
        execution_timeout = self.execution_timeout
        values: dict[str, Any] = {
            "start_fields": {name: getattr(self, name) for name in self.start_field_names},
            "agent_id": read_id(self.agent_id),
            "execution_timeout": execution_timeout.total_seconds() if execution_timeout else None,
            "has_reply": self.reply is not None,
            "has_notifiers": bool(self.notifiers),
            "pushes_xcoms": bool(self.do_xcom_push),
            # Read here, so that a change of Airflow's settings applies to tasks that exist already.
            "artifacts_path": read_artifacts_path(self.artifacts_path) or read_text(ARTIFACTS_PATH) or None,
            "max_xcom_bytes": self.max_xcom_bytes or read_integer(MAX_XCOM_BYTES),
            "min_poll_interval": read_number(MIN_POLL_INTERVAL),
            "max_poll_interval": read_number(MAX_POLL_INTERVAL),
            "callback_poll_interval": read_number(CALLBACK_POLL_INTERVAL),
        }
        values.update({name: getattr(self, name) for name in names if name not in values})
        return TaskSettings(**values)
