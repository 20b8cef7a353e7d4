"""The sensor that waits for an agent task started by another task or another system."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from airflow_agent_tasks.agent_task import StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.resume_timing import build_deferral_timeout
from airflow_agent_tasks.configuration.options import MAX_POLL_INTERVAL, MIN_POLL_INTERVAL
from airflow_agent_tasks.configuration.reader import read_number
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskError,
    AgentTaskUnavailableError,
    AgentTaskUnreachableStateError,
)
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.outcome import describe_words
from airflow_agent_tasks.lifecycle.trigger_event import read_event
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait, Verdict
from airflow_agent_tasks.operators.argument_names import check_names
from airflow_agent_tasks.operators.arguments import COMMON_CHECKS, CheckedArguments
from airflow_agent_tasks.operators.links import TASK_LINKS, list_unstored
from airflow_agent_tasks.operators.task_documentation import build_documentation
from airflow_agent_tasks.operators.value_checks import (
    as_list,
    check_flag,
    check_name,
    check_optional_name,
    check_text,
    read_id,
    read_text,
)
from airflow_agent_tasks.polling.status_check import StatusChecker
from airflow_agent_tasks.text import shorten
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger
from airflow_agent_tasks.worker.failures import airflow_failures, reported_failures
from airflow_agent_tasks.worker.links import Links

if TYPE_CHECKING:
    from airflow.sdk import Context
    from typing_extensions import Unpack

    from airflow_agent_tasks.operators.keywords import AirflowSensorArguments


def read_states(name: str, states: str | Collection[str]) -> list[str]:
    """Return one state or several as sorted text; raises AgentTaskArgumentError for an unknown one."""
    given: list[Any] = as_list(states)
    known = [state.value for state in TaskState if state is not TaskState.UNKNOWN]
    wrong = [state for state in given if str(getattr(state, "value", state)) not in known]
    if wrong or not given:
        raise AgentTaskArgumentError(
            f"{name} must be one or more of {', '.join(known)}, not {shorten(repr((wrong or [given])[0]))}."
        )
    return sorted({TaskState(state).value for state in given})


class AgentTaskSensor(CheckedArguments, BaseSensorOperator):
    """
    Wait until an agent task is in one of the target states; fail at once if it can no longer reach any.

    Returns the agent task as JSON (``AgentTask.to_json``), in every mode. It always polls: a service calls
    back only the operator that started the agent task.

    ```python
    AgentTaskSensor(task_id="is_done", agent_task_id=start.output["task_id"], conn_id="shinzo_default")
    ```

    Other keyword arguments (``task_id``, ``timeout``, ``mode``, ``soft_fail``, …) go to Airflow's
    ``BaseSensorOperator``. Its ``timeout`` is in seconds; the default is Airflow's setting
    ``[sensors] default_timeout``, which is 7 days unless you change it.

    :param agent_task_id: The service's id of the agent task. Required. (templated)
    :param target_states: One or more of ``queued``, ``running``, ``paused``, ``awaiting_input``,
        ``completed``, ``failed``, ``cancelled``. Default ``completed``. (not templated)
    :param conn_id: The Airflow connection; its type names the service. Required. (templated)
    :param agent_id: The agent that runs the task, on services where you choose one (Shinzo). Default None:
        the connection's ``agent_id``. (templated)
    :param deferrable: True waits in the triggerer, False on the worker. Default: Airflow's setting
        ``[operators] default_deferrable``, which is False unless you change it.
    :param poke_interval: Time between checks in seconds, as a number or a ``timedelta``. Default None: the
        interval grows from 2 to 30 seconds with the time waited, and is 60 seconds with
        ``mode="reschedule"``.
    :raises AgentTaskArgumentError: for an argument that the sensor does not have, or an unknown target state.
    :raises AirflowFailException: if the agent task can no longer reach a target state, or for an error that
        would recur on a retry, such as an invalid argument or a rejected key.
    :raises AirflowSensorTimeout: if ``timeout`` passed.
    """

    template_fields: Sequence[str] = ("agent_task_id", "agent_id", "conn_id")
    ui_color = "#f1eefb"
    operator_extra_links = TASK_LINKS
    argument_checks = {**COMMON_CHECKS, "target_states": read_states}  # noqa: RUF012

    def __init__(
        self,
        *,
        agent_task_id: str,
        conn_id: str,
        agent_id: str | None = None,
        target_states: str | Collection[str] = (TaskState.COMPLETED.value,),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float | None = None,
        **kwargs: Unpack[AirflowSensorArguments],
    ) -> None:
        check_names(type(self), kwargs)
        arguments = {**build_documentation(type(self), kwargs), **kwargs}
        super().__init__(poke_interval=60 if poke_interval is None else poke_interval, **arguments)
        self.agent_task_id = check_text("agent_task_id", agent_task_id)
        self.agent_id = check_optional_name("agent_id", agent_id)
        self.conn_id = check_name("conn_id", conn_id)
        self.target_states = read_states("target_states", target_states)
        self.deferrable = check_flag("deferrable", deferrable)
        # Not before BaseSensorOperator has set mode, which may come from default_args.
        grows = poke_interval is None and not self.reschedule and not self.exponential_backoff
        self._fixed_interval = None if grows else self.poke_interval
        self._next_interval = self.poke_interval
        self._watch: StatusChecker | None = None

    @cached_property
    def hook(self) -> AgentTaskHook:
        """The hook for the connection's type."""
        return find_hook(self.conn_id)

    def execute(self, context: Context) -> Any:
        """Wait for a target state, in the triggerer if ``deferrable``."""
        self.operator_extra_links = list_unstored(self)
        if not self.deferrable:
            with self._reported(context):
                return super().execute(context)
        # Airflow applies soft_fail and never_fail after a deferral, but not to the code before it.
        return self.resume_execution("check_or_defer", None, context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; ``never_fail`` also covers our own errors, as it does while poking."""
        self.operator_extra_links = list_unstored(self)
        with self._reported(context):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AgentTaskError as error:
                if self.never_fail:
                    raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
                raise

    def _reported(self, context: Context) -> AbstractContextManager[None]:
        return reported_failures(context["ti"], self.log, pushes_xcoms=bool(self.do_xcom_push))

    def check_or_defer(self, context: Context) -> Any:
        """Check once; return the agent task if it has reached a target state, else defer."""
        done = self.poke(context)
        return done.xcom_value if done else self._defer(self._start())

    def poke(self, context: Context) -> PokeReturnValue:
        """Check once; done when the agent task has reached a target state."""
        with airflow_failures():
            if self._watch is None:
                started = self._start()
                self._watch = self._build_watch(started)
                links = Links(context["ti"], lambda: self.hook, self.log)
                links.show_task(started.agent_task_id, started.agent_id)
            return self._judge(self._watch.check(self.hook))

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Check once more after the trigger's event; return the agent task, or defer again."""
        with airflow_failures():
            started, said = read_event(event)
            if said.verdict in (Verdict.ERROR, Verdict.OUTAGE) and said.error:
                raise said.error
            done = self._judge(self._build_watch(started).check(self.hook, retries=True))
        if not done and said.verdict is Verdict.TIMEOUT:
            raise AirflowSensorTimeout(
                f"Agent task {started.agent_task_id} did not reach the state "
                f"{' or '.join(self.target_states)} within the timeout of {self.timeout:g} s."
            )
        return done.xcom_value if done else self._defer(started)

    def _judge(self, decision: Decision) -> PokeReturnValue:
        if decision.waits:
            self._next_interval = decision.seconds
            if self._fixed_interval is None:
                self.poke_interval = decision.seconds  # Airflow reads it before each wait.
            return PokeReturnValue(False)
        if decision.verdict is Verdict.OUTAGE:
            raise AgentTaskUnavailableError(
                f"Stopped checking agent task {self.agent_task_id}. Last failure: {decision.error}"
            )
        if decision.task is None:
            raise decision.error or AgentTaskError(
                f"Could not read the state of agent task {self.agent_task_id}."
            )
        if decision.verdict is Verdict.UNREACHABLE:
            raise AgentTaskUnreachableStateError(
                f"{decision.task} can no longer reach the state {' or '.join(self.target_states)}."
                f"{describe_words(decision.task)}",
                task=decision.task,
                is_final=True,
            )
        return PokeReturnValue(True, decision.task.to_json())

    def _start(self) -> StartedTask:
        agent_task_id = read_text("agent_task_id", self.agent_task_id)
        return StartedTask(agent_task_id, read_id(self.agent_id), time.time())

    def _build_watch(self, started: StartedTask) -> StatusChecker:
        targets = [TaskState(state) for state in self.target_states]
        self.hook.dialect.check_states(targets)
        wait = TaskWait(
            working_since=started.started_at,
            targets=targets,
            poll_interval=self._fixed_interval,
            min_interval=read_number(MIN_POLL_INTERVAL),
            max_interval=read_number(MAX_POLL_INTERVAL),
        )
        return StatusChecker(started, wait, self.log)

    def _defer(self, started: StartedTask) -> None:
        now, deadline = time.time(), started.started_at + self.timeout
        self.defer(
            trigger=AgentTaskTrigger(
                conn_id=self.conn_id,
                **started.to_kwargs(),
                target_states=self.target_states,
                poll_interval=self._fixed_interval,
                not_before=now + self._next_interval,
                deadline=deadline,
            ),
            method_name="execute_complete",
            timeout=build_deferral_timeout(deadline, now=now),
        )
