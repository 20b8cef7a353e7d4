"""The base of the operators that run an agent task; re-exports the operators for running tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from airflow_agent_tasks.lifecycle.wait_policy import MAX_OUTAGE
from airflow_agent_tasks.operators.argument_names import (
    check_names,
    complete_docstring,
    find_dialect,
    pick_needing_capability,
)
from airflow_agent_tasks.operators.arguments import TASK_CHECKS, CheckedArguments
from airflow_agent_tasks.operators.links import ALL_LINKS
from airflow_agent_tasks.operators.running_task_actions import (
    AgentTaskCancelOperator,
    AgentTaskMessageOperator,
    AgentTaskPauseOperator,
    AgentTaskResumeOperator,
)
from airflow_agent_tasks.operators.task_documentation import build_documentation
from airflow_agent_tasks.operators.task_execution import RunsAgentTask
from airflow_agent_tasks.operators.value_checks import check_constants, check_input_timeout, check_waiting

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier
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


class AgentTaskOperator(CheckedArguments, RunsAgentTask):
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
        with the time waited, which delays the result by about 5 % of the run time. If the service calls
        Airflow back and the operator waits in the triggerer, the interval is 300 seconds, in case a call is
        lost.
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
    :param stream: True follows the agent's event stream on the worker, which shows each step in the log at
        once. If the stream breaks, the operator waits as without it. Default False.
    :param budget: The most that the agent task may use, as its service reports it: any of ``steps``,
        ``seconds``, ``tokens`` and ``cost``, with numbers. If it passes one of them, the operator stops it
        and fails without retries. Default None: no limit.
    :param artifacts_path: Where to keep the agent's screenshots, files and large results: a folder or the URL
        of an object storage, such as ``"s3://aws_default@bucket/{{ dag.dag_id }}"``. Default None: Airflow's
        setting ``[agent_tasks] artifacts_path``. (templated)
    :param max_xcom_bytes: Bytes of JSON above which a result goes to ``artifacts_path`` instead of XCom.
        Default None: Airflow's setting ``[agent_tasks] max_xcom_bytes``, which is 65536 unless you change it.
    :raises AgentTaskFailedError: if the agent task failed or ended with an exit code other than 0.
    :raises AgentTaskCancelledError: if it was cancelled on the service or stopped by a user.
    :raises AgentTaskTimeoutError: if ``timeout``, ``execution_timeout`` or ``input_timeout`` passed.
    :raises AgentTaskBudgetError: if it passed its ``budget``.
    :raises AgentTaskError: for everything else, see ``airflow_agent_tasks.errors``. Errors that would recur
        on a retry (an invalid argument, a rejected key) are also an AirflowFailException and are not retried.
    """

    template_fields: Sequence[str] = ("conn_id", "agent_id", "artifacts_path")
    ui_color = "#e8e4f8"
    operator_extra_links = ALL_LINKS
    argument_checks = TASK_CHECKS

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
        stream: bool = False,
        budget: Mapping[str, float] | None = None,
        artifacts_path: str | None = None,
        max_xcom_bytes: int | None = None,
        **kwargs: Unpack[AirflowOperatorArguments],
    ) -> None:
        given = locals()
        needing_capability = pick_needing_capability(given, kwargs.get("default_args"))
        check_names(type(self), {**kwargs, **needing_capability})
        super().__init__(**{**build_documentation(type(self), kwargs), **kwargs})
        self._set_start_fields(start_fields)
        for name, check in TASK_CHECKS.items():
            if name in given:
                setattr(self, name, check(name, given[name]))
        # A DAG may give None for the default.
        self.max_outage = self.max_outage or MAX_OUTAGE
        self.input_recheck_interval = self.input_recheck_interval or INPUT_RECHECK_INTERVAL
        check_input_timeout(self.input_default, self.input_timeout)
        check_waiting(wait_for_completion=self.wait_for_completion, stream=self.stream, budget=self.budget)

    def _set_start_fields(self, start_fields: Mapping[str, Any]) -> None:
        self._check_start_fields(start_fields)
        self.start_field_names = tuple(start_fields)
        # Set before the attributes, so that Airflow finds the upstream tasks whose outputs they hold.
        self.template_fields = tuple(dict.fromkeys((*type(self).template_fields, *start_fields)))
        for name, value in start_fields.items():
            setattr(self, name, value)

    def _check_start_fields(self, start_fields: Mapping[str, Any]) -> None:
        check_constants(find_dialect(type(self)), start_fields)
