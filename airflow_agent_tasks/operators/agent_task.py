"""The base of the operators that run an agent task; re-exports the operators for running tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, conf
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.airflow_compat.state_store import SubmissionStore
from airflow_agent_tasks.airflow_compat.task_states import read_state
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.commands import Flow
from airflow_agent_tasks.lifecycle.execution import TaskSettings
from airflow_agent_tasks.lifecycle.outcome import Outcome
from airflow_agent_tasks.lifecycle.run import (
    resume_after_wait,
    resume_with_answer,
    resume_without_event,
    run,
)
from airflow_agent_tasks.lifecycle.trigger_event import read_event
from airflow_agent_tasks.lifecycle.wait_policy import MAX_OUTAGE, Verdict
from airflow_agent_tasks.operators import arguments as checks
from airflow_agent_tasks.operators.argument_names import (
    check_names,
    complete_docstring,
    find_dialect,
    pick_needing_capability,
)
from airflow_agent_tasks.operators.links import ALL_LINKS, list_unstored
from airflow_agent_tasks.operators.running_task_actions import (
    AgentTaskCancelOperator,
    AgentTaskMessageOperator,
    AgentTaskPauseOperator,
    AgentTaskResumeOperator,
)
from airflow_agent_tasks.operators.task_documentation import build_documentation
from airflow_agent_tasks.worker.driver import Callbacks, Driver

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context
    from typing_extensions import Unpack

    from airflow_agent_tasks.airflow_compat.required_action import HITLUser
    from airflow_agent_tasks.operators.keywords import AirflowOperatorArguments

#: Default of ``input_recheck_interval``, in seconds.
INPUT_RECHECK_INTERVAL = 600.0

__all__ = [
    "AgentTaskCancelOperator",
    "AgentTaskMessageOperator",
    "AgentTaskOperator",
    "AgentTaskPauseOperator",
    "AgentTaskResumeOperator",
]


class AgentTaskOperator(checks.CheckedArguments, BaseOperator):
    """
    Start an agent task, wait for it to end, and return its result.

    This is the base class of ``LightconeTaskOperator`` and ``ShinzoTaskOperator``, which name their service's
    start fields. A retry continues the agent task of the earlier try. Clearing the task stops the agent task
    if it still runs, and starts a new one.

    XCom: ``return_value`` is the whole agent task as JSON (``AgentTask.to_json``). ``task_id``, ``status``
    and ``exit_code`` have their own keys, and stay readable when the Airflow task fails; ``error`` then says
    why. While the operator waits, it updates ``status`` and, if the service reports it, ``progress``.
    ``question`` holds the agent's latest question, and ``answers`` who answered what.

    Callbacks find one of the exceptions below in ``context["exception"]``, even if Airflow does not retry.
    Its ``task`` is the agent task (an ``AgentTask``), or None if there was none.

    Times are in seconds, as a number or a ``timedelta``. Only arguments marked "templated" are rendered.
    Other keyword arguments (``task_id``, ``retries``, ``pool``, …) go to Airflow's ``BaseOperator``.

    :param start_fields: The service's start fields by name. Each becomes an attribute. (templated)
    :param conn_id: The Airflow connection; its type names the service. (templated)
    :param agent_id: The agent that runs the task, on services where you choose one (Shinzo). Default None:
        the connection's ``agent_id``. (templated)
    :param wait_for_completion: True waits until the agent task ends; False returns as soon as it has started.
        Default True.
    :param deferrable: True waits in the triggerer, False on the worker. Default: Airflow's setting
        ``[operators] default_deferrable``, which is False unless you change it.
    :param poll_interval: Seconds between status checks. Default None: the interval grows from 2 to 30 seconds
        with the time waited, which delays the result by about 5 % of the run time.
    :param timeout: Seconds from the start of the agent task until the operator gives up. Retries do not
        restart the count, and the time that a question waits for an answer is not counted. Default None: no
        limit.
    :param on_timeout: What happens to the agent task when ``timeout`` passes: ``"stop"`` (default) cancels
        it, or pauses it if the service cannot cancel; ``"leave"`` leaves it running. The same applies when
        Airflow's ``execution_timeout`` passes, which counts from the start of each try.
    :param on_kill_policy: What happens to the agent task when the Airflow task is marked failed or success,
        or skipped by its DAG run's timeout: ``"stop"`` (default) stops it, ``"leave"`` leaves it running. If
        a worker or triggerer is lost or drained and another try is left, the agent task keeps running and
        that try attaches to it.
    :param on_uncertain_submit: What to do when a start was sent, no response came, and the service has no
        idempotency keys (Shinzo): ``"fail"`` (default) fails without retries and says where to look;
        ``"resubmit"`` submits again, which may start a second agent task. No effect on services with
        idempotency keys (Lightcone).
    :param max_outage: Seconds for which the service may fail to answer while the operator waits. After that,
        the Airflow task fails, and a retry attaches to the agent task. Default 600.
    :param on_awaiting_input: What to do when the agent asks a question. ``"ask"`` (default) parks the task,
        without a worker or trigger, until someone answers under Required Actions, and then sends the answer.
        ``"return"`` succeeds with the status ``awaiting_input`` and the question in XCom. ``"fail"`` stops
        the agent task and fails. The time until someone answers does not count towards any timeout.
    :param reply: A function that gets each question first. It returns the reply, or None to leave the
        question to ``on_awaiting_input``. It answers the same question at most five times in a row. Default
        None.
    :param assigned_users: The users who may answer: ``{"id": …, "name": …}`` or a list of these. Default
        None: everyone who may edit the DAG's required actions.
    :param notifiers: One Airflow notifier or a list, called when the agent's question needs an answer. Their
        templates can use ``question``. It contains the agent's words, so escape it in HTML and in chat markup
        (``{{ question | e }}``). Default None.
    :param input_timeout: Seconds that each question waits for an answer. After that, the operator sends
        ``input_default``; without one the task fails, and ``on_timeout`` applies to the agent task. Default
        None: no limit.
    :param input_default: The reply to send if nobody answers within ``input_timeout``, which it requires. The
        operator sends it to the same question at most five times in a row. Default None.
    :param input_recheck_interval: Seconds after which a parked task checks again whether the agent still
        waits for the answer; someone may have answered on the service itself. Default 600.
    :param skip_on_exit_code: One exit code or a list. If the agent task ends with one of them, the Airflow
        task is skipped. Default None.
    :param no_retry_on_exit_code: One exit code or a list. If the agent task ends with one of them, the
        Airflow task fails without retries. Default None.
    :raises AgentTaskFailedError: if the agent task failed or ended with an exit code other than 0.
    :raises AgentTaskCancelledError: if it was cancelled on the service or stopped by a user.
    :raises AgentTaskTimeoutError: if ``timeout``, ``execution_timeout`` or ``input_timeout`` passed.
    :raises AgentTaskError: for everything else, see ``airflow_agent_tasks.errors``. Errors that would recur
        on a retry (an invalid argument, a rejected key) are also an AirflowFailException and are not retried.
    """

    #: The hook of the service; this base class accepts the hook of any service.
    hook_class: ClassVar[type[AgentTaskHook]] = AgentTaskHook
    template_fields: Sequence[str] = ("conn_id", "agent_id")
    ui_color = "#e8e4f8"
    operator_extra_links = ALL_LINKS
    argument_checks = checks.TASK_CHECKS
    _driver: Driver | None = None
    _is_delivered = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            cls.__doc__ = complete_docstring(cls, AgentTaskOperator.__doc__ or "")

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
        on_kill_policy: str = "stop",
        on_uncertain_submit: str = "fail",
        max_outage: timedelta | float = MAX_OUTAGE,
        on_awaiting_input: str = "ask",
        reply: Callable[[str], str | None] | None = None,
        assigned_users: HITLUser | Collection[HITLUser] | None = None,
        notifiers: BaseNotifier | Collection[BaseNotifier] | None = None,
        input_timeout: timedelta | float | None = None,
        input_default: str | None = None,
        input_recheck_interval: timedelta | float = INPUT_RECHECK_INTERVAL,
        skip_on_exit_code: int | Collection[int] | None = None,
        no_retry_on_exit_code: int | Collection[int] | None = None,
        **kwargs: Unpack[AirflowOperatorArguments],
    ) -> None:
        needing_capability = pick_needing_capability(locals(), kwargs.get("default_args"))
        check_names(type(self), {**kwargs, **needing_capability})
        super().__init__(**{**build_documentation(type(self), kwargs), **kwargs})
        self.conn_id = checks.check_name("conn_id", conn_id)
        self.agent_id = checks.check_optional_name("agent_id", agent_id)
        self._set_start_fields(start_fields)
        self.wait_for_completion = checks.check_flag("wait_for_completion", wait_for_completion)
        self.deferrable = checks.check_flag("deferrable", deferrable)
        self.poll_interval = checks.check_seconds("poll_interval", poll_interval)
        self.timeout = checks.check_seconds("timeout", timeout)
        self.on_timeout = checks.check_policy("on_timeout", on_timeout)
        self.on_kill_policy = checks.check_policy("on_kill_policy", on_kill_policy)
        self.on_uncertain_submit = checks.check_policy("on_uncertain_submit", on_uncertain_submit)
        self.max_outage = checks.check_seconds("max_outage", max_outage) or MAX_OUTAGE
        self.on_awaiting_input = checks.check_policy("on_awaiting_input", on_awaiting_input)
        self.reply = checks.check_reply("reply", reply)
        self.assigned_users = checks.check_users("assigned_users", assigned_users)
        self.notifiers = checks.check_notifiers("notifiers", notifiers)
        self.input_timeout = checks.check_seconds("input_timeout", input_timeout)
        self.input_default = checks.check_input_default("input_default", input_default)
        checks.check_input_timeout(self.input_default, self.input_timeout)
        recheck_interval = checks.check_seconds("input_recheck_interval", input_recheck_interval)
        self.input_recheck_interval = recheck_interval or INPUT_RECHECK_INTERVAL
        self.skip_on_exit_code = checks.check_exit_codes("skip_on_exit_code", skip_on_exit_code)
        self.no_retry_on_exit_code = checks.check_exit_codes("no_retry_on_exit_code", no_retry_on_exit_code)

    def _set_start_fields(self, start_fields: Mapping[str, Any]) -> None:
        self._check_start_fields(start_fields)
        self.start_field_names = tuple(start_fields)
        # Set before the attributes, so that Airflow finds the upstream tasks whose outputs they hold.
        self.template_fields = tuple(dict.fromkeys((*type(self).template_fields, *start_fields)))
        for name, value in start_fields.items():
            setattr(self, name, value)

    def _check_start_fields(self, start_fields: Mapping[str, Any]) -> None:
        checks.check_constants(find_dialect(type(self)), start_fields)

    @cached_property
    def hook(self) -> AgentTaskHook:
        """The hook for the connection's type."""
        return find_hook(self.conn_id, self.hook_class)

    def execute(self, context: Context) -> Any:
        """Attach to the agent task of an earlier try or start one; wait if ``wait_for_completion`` is set."""
        return self._drive(context, run)

    def execute_complete(self, context: Context, event: Any, is_asked: bool = False) -> Any:
        """Resume after the trigger's event: get the agent task again, and return its result."""
        try:
            started, reported = read_event(event)
        except AgentTaskError as error:
            return self._drive(context, resume_without_event, error)
        return self._drive(context, resume_after_wait, started, reported, has_questions=is_asked)

    def take_answer(self, context: Context, event: Any, question_id: str | None = None) -> Any:
        """Resume a parked task, with someone's answer or to check whether the question is still open."""
        return self._drive(context, resume_with_answer, event, question_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, even if it ended without an event from the trigger."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            reason, verdict = "No triggerer reported the end of the wait in time.", Verdict.TIMEOUT
        except TaskDeferralError as error:
            # Deferring again could repeat forever; Airflow limits retries.
            reason, verdict = f"The trigger failed ({error}); see its log.", Verdict.ERROR
        return self._drive(context, resume_without_event, AgentTaskError(reason), verdict)

    def on_kill(self) -> None:
        """Stop the agent task, unless ``on_kill_policy`` is "leave" or the next try will attach to it."""
        if self._driver is not None:
            self._driver.on_kill()

    def forget_agent_task(self, context: Context) -> None:
        """Remove the record of an agent task whose result Airflow has; called after success."""
        # Checked, because the worker carries on as if the task had succeeded even if Airflow could not
        # record the success.
        if self._is_delivered and read_state(context["ti"]) == "success":
            SubmissionStore(context).drop()

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
        self._driver = driver = Driver(
            settings, callbacks, context, self.log, pushes_xcoms=bool(self.do_xcom_push)
        )
        try:
            task = driver.run(flow(driver.execution, *args, **kwargs))
        finally:
            self._driver = None
        self._is_delivered = task.status is TaskState.COMPLETED and self.wait_for_completion
        return task.to_json()

    def _build_settings(self) -> TaskSettings:
        names = [field.name for field in fields(TaskSettings)]
        execution_timeout = self.execution_timeout
        values: dict[str, Any] = {
            "start_fields": {name: getattr(self, name) for name in self.start_field_names},
            "agent_id": checks.read_id(self.agent_id),
            "execution_timeout": execution_timeout.total_seconds() if execution_timeout else None,
            "has_reply": self.reply is not None,
            "has_notifiers": bool(self.notifiers),
        }
        values.update({name: getattr(self, name) for name in names if name not in values})
        return TaskSettings(**values)
