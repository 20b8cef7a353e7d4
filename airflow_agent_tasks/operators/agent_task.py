"""The base of the operators that run an agent task, and the operators that act on a running one."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, conf
from airflow.sdk.exceptions import AirflowSkipException

from airflow_agent_tasks.errors import (
    AgentTaskError,
    AgentTaskInputRequiredError,
    AgentTaskTimeoutError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.lookup import find_hook
from airflow_agent_tasks.operators.actions import (
    AgentTaskCancelOperator,
    AgentTaskMessageOperator,
    AgentTaskPauseOperator,
    AgentTaskResumeOperator,
)
from airflow_agent_tasks.operators.arguments import (
    check_constants,
    check_exit_codes,
    check_one_of,
    check_seconds,
)
from airflow_agent_tasks.operators.failing import airflow_failures, build_failure
from airflow_agent_tasks.protocol.fields import read_rendered
from airflow_agent_tasks.protocol.http import shorten
from airflow_agent_tasks.protocol.polling import MAX_OUTAGE, Decision, TaskWait, Verdict
from airflow_agent_tasks.protocol.task import AgentTask, Progress, TaskState
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger, read_event
from airflow_agent_tasks.triggers.progress import PROGRESS_KEY
from airflow_agent_tasks.triggers.waiting import StartedTask, StatusWatch

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = [
    "AgentTaskCancelOperator",
    "AgentTaskMessageOperator",
    "AgentTaskOperator",
    "AgentTaskPauseOperator",
    "AgentTaskResumeOperator",
]


class AgentTaskOperator(BaseOperator):
    """
    Start an agent task, wait for it, and hand its result to the tasks downstream.

    The base of the services' own operators, which name the start fields.

    XCom: ``return_value`` is the whole task as JSON (``AgentTask.to_json``); ``task_id``, ``status`` and
    ``exit_code`` are also there by themselves, and stay readable when the Airflow task fails. While it waits,
    ``progress`` follows the agent where the service tells, and ``question`` holds what it asks.

    :param start_fields: The service's start fields by name; each becomes a (templated) attribute.
    :param conn_id: The Airflow connection. (templated)
    :param agent_id: The agent that is to run the task, on services that have agents. (templated)
    :param wait_for_completion: False to return as soon as the task is started.
    :param deferrable: Wait in the triggerer instead of a worker. Default: Airflow's ``default_deferrable``.
    :param poll_interval: Fixed seconds between status checks. Default None: 2 s at first, growing with the
        time waited to 30 s, so that the end is seen about 5 % of the run time late.
    :param timeout: Seconds from the start after which to give up. Default None: wait for ever.
    :param on_timeout: ``"stop"`` (default) stops the agent task when the timeout passes: it is cancelled, or
        paused where the service cannot cancel. ``"leave"`` leaves it running.
    :param on_awaiting_input: What to do when the agent asks a question: ``"fail"`` (default) stops the agent
        task and fails; ``"return"`` ends well with the status ``awaiting_input`` and the question in XCom.
    :param skip_on_exit_code: Exit code or codes that leave the Airflow task skipped.
    :param no_retry_on_exit_code: Exit code or codes that fail the Airflow task without retries.
    :raises AgentTaskFailedError: when the agent task failed or ended with an exit code other than 0.
    :raises AgentTaskCancelledError: when it was cancelled on the service.
    :raises AgentTaskTimeoutError: when ``timeout`` passed.
    :raises AirflowFailException: for what a retry would meet again: a wrong argument, a refused key.
    """

    #: The service; this base accepts whichever the connection's type names.
    hook_class: ClassVar[type[AgentTaskHook]] = AgentTaskHook
    template_fields: Sequence[str] = ("conn_id", "agent_id")
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        start_fields: Mapping[str, Any],
        conn_id: str,
        agent_id: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: timedelta | float | None = None,
        timeout: timedelta | float | None = None,
        on_timeout: str = "stop",
        on_awaiting_input: str = "fail",
        skip_on_exit_code: int | Collection[int] | None = None,
        no_retry_on_exit_code: int | Collection[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.agent_id = agent_id
        self.start_field_names = tuple(start_fields)
        # Before the fields are set, so that Airflow sees the tasks whose outputs they are.
        self.template_fields = tuple(dict.fromkeys((*type(self).template_fields, *start_fields)))
        for name, value in start_fields.items():
            setattr(self, name, value)
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = check_seconds("poll_interval", poll_interval)
        self.timeout = check_seconds("timeout", timeout)
        self.on_timeout = check_one_of("on_timeout", on_timeout, ("stop", "leave"))
        self.on_awaiting_input = check_one_of("on_awaiting_input", on_awaiting_input, ("return", "fail"))
        self.skip_on_exit_code = check_exit_codes("skip_on_exit_code", skip_on_exit_code)
        self.no_retry_on_exit_code = check_exit_codes("no_retry_on_exit_code", no_retry_on_exit_code)
        self._pushed_progress: Progress | None = None
        if self.hook_class is not AgentTaskHook:
            check_constants(self.hook_class.dialect, start_fields)

    @cached_property
    def hook(self) -> AgentTaskHook:
        """The hook that the connection's type names."""
        return find_hook(self.conn_id, self.hook_class)

    def execute(self, context: Context) -> Any:
        """Start the agent task, and wait for it unless told otherwise."""
        with airflow_failures():
            task = self.attach_or_submit(context)
            self._push(context, task)
            if not self.wait_for_completion:
                return task.to_json()
            started = StartedTask(task.task_id, task.agent_id, time.time())
            # The first check is the worker's: a trigger that fires at once can fail its task.
            watch = self._watch(started)
            return self._wait(context, started, watch, watch.check())

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Take the result after the trigger's event; what the event says of the task is asked again."""
        with airflow_failures():
            started, said = read_event(event)
            if said.verdict is Verdict.ERROR and said.error:
                raise said.error
            watch = self._watch(started)
            decision = watch.check(retries=True)
            if said.verdict is Verdict.OUTAGE and decision.task is None:
                decision = said
            return self._wait(context, started, watch, decision)

    def attach_or_submit(self, context: Context) -> AgentTask:
        """Return the agent task of this try: here is decided whether one is started."""
        given = {name: getattr(self, name) for name in self.start_field_names}
        fields = read_rendered(self.hook.dialect.start_fields, given)
        task = self.hook.start_task(agent_id=self.agent_id, **self.complete_start_fields(fields, context))
        self.log.info("Started %s", task)
        return task

    def complete_start_fields(self, fields: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the start fields with what the service needs to tell this start from others."""
        return fields

    def act_on(self, context: Context, decision: Decision, started: StartedTask) -> Any:
        """Return or raise what the end of the wait means for the Airflow task."""
        name = f"{self.hook.dialect.title} agent task {started.agent_task_id}"
        if decision.verdict is Verdict.TIMEOUT:
            fate = self._stop(started) if self.on_timeout == "stop" else "It was left running."
            raise AgentTaskTimeoutError(
                f"{name} did not end within its timeout of {self.timeout:g} s. {fate}"
            )
        if decision.verdict is Verdict.OUTAGE:
            raise AgentTaskUnavailableError(
                f"{name} could not be watched: no usable answer for {MAX_OUTAGE:g} s. It was left running. "
                f"The last failure: {decision.error}"
            )
        if decision.task is None:
            raise decision.error or AgentTaskError(f"{name} was not seen.")
        return self.act_on_state(context, decision.task, started)

    def act_on_state(self, context: Context, task: AgentTask, started: StartedTask) -> Any:
        """Return or raise what the agent task's state means for the Airflow task."""
        self._push(context, task)
        if task.exit_code is not None and task.exit_code in self.skip_on_exit_code:
            raise AirflowSkipException(f"{task}: exit code {task.exit_code} is one of skip_on_exit_code.")
        if task.status is TaskState.COMPLETED:
            self.log.info("Completed: %s", task)
            return task.to_json()
        if task.status is TaskState.AWAITING_INPUT:
            if self.on_awaiting_input == "return":
                return task.to_json()
            fate = self._stop(started)
            raise AgentTaskInputRequiredError(
                f"{task} asks {shorten(task.question or '', 500)!r}, and on_awaiting_input is 'fail'. {fate}",
                task=task,
            )
        raise build_failure(task, is_final=task.exit_code in self.no_retry_on_exit_code)

    def _wait(self, context: Context, started: StartedTask, watch: StatusWatch, decision: Decision) -> Any:
        while decision.waits:
            self._push_progress(context, decision.task)
            if self.deferrable:
                self._defer(started)
            time.sleep(decision.seconds)
            decision = watch.check()
        return self.act_on(context, decision, started)

    def _defer(self, started: StartedTask) -> None:
        self.defer(
            trigger=AgentTaskTrigger(
                conn_id=self.conn_id,
                **started.to_kwargs(),
                poll_interval=self.poll_interval,
                deadline=self._deadline(started),
                notes_progress=self.do_xcom_push,
            ),
            method_name="execute_complete",
        )

    def _watch(self, started: StartedTask) -> StatusWatch:
        wait = TaskWait(
            started_at=started.started_at,
            poll_interval=self.poll_interval,
            deadline=self._deadline(started),
        )
        return StatusWatch(lambda: self.hook, started, wait, self.log)

    def _deadline(self, started: StartedTask) -> float | None:
        return None if self.timeout is None else started.started_at + self.timeout

    def _stop(self, started: StartedTask) -> str:
        """Stop the agent task; return what became of it as a sentence, also where stopping failed."""
        try:
            task = self.hook.stop_task(started.agent_task_id, started.agent_id)
        except AgentTaskError as error:
            return f"Stopping it failed, so it may still be running: {error}"
        return f"It was stopped: {task}."

    def _push(self, context: Context, task: AgentTask) -> None:
        """Leave in XCom what must be readable even if this Airflow task fails."""
        if not self.do_xcom_push:
            return
        push = context["ti"].xcom_push
        push(key="task_id", value=task.task_id)
        push(key="status", value=task.status.value)
        if task.exit_code is not None:
            push(key="exit_code", value=task.exit_code)
        if task.status is TaskState.AWAITING_INPUT:
            push(key="question", value=task.question)
        self._push_progress(context, task)

    def _push_progress(self, context: Context, task: AgentTask | None) -> None:
        if self.do_xcom_push and task and task.progress and task.progress != self._pushed_progress:
            context["ti"].xcom_push(key=PROGRESS_KEY, value=task.progress.to_json())
            self._pushed_progress = task.progress
