"""
The names and types of the arguments behind ``**kwargs``, for editors and type checkers.

Nothing uses this at run time. ``AgentTaskOperator`` documents the arguments. Tests compare each class here
with the signature that it repeats, including Airflow's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseNotifier, Context, RetryPolicy, TaskGroup
    from typing_extensions import NotRequired

    from airflow_agent_tasks.airflow_compat.required_action import HITLUser

    Callback = Callable[[Context], None]


class AirflowArguments(TypedDict, total=False):
    """The arguments of ``BaseOperator`` except ``task_id``; Airflow documents them."""

    owner: str
    email: str | Sequence[str] | None
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    max_retry_delay: timedelta | float | None
    retry_policy: RetryPolicy | None
    start_date: datetime | None
    end_date: datetime | None
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    dag: DAG | None
    params: MutableMapping[str, Any] | None
    default_args: dict[str, Any] | None
    priority_weight: int
    weight_rule: str
    queue: str
    pool: str | None
    pool_slots: int
    sla: timedelta | None
    execution_timeout: timedelta | None
    on_execute_callback: Callback | Collection[Callback] | None
    on_failure_callback: Callback | list[Callback] | None
    on_success_callback: Callback | Collection[Callback] | None
    on_retry_callback: Callback | list[Callback] | None
    on_skipped_callback: Callback | Collection[Callback] | None
    pre_execute: Callback | None
    post_execute: Callable[[Context, Any], None] | None
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    do_xcom_push: bool
    multiple_outputs: bool
    inlets: Any | None
    outlets: Any | None
    task_group: TaskGroup | None
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    task_display_name: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None


class AgentTaskArguments(AirflowArguments, total=False):
    """The arguments that the operators of all services share, and those of ``BaseOperator``."""

    wait_for_completion: bool
    deferrable: bool
    poll_interval: timedelta | float | None
    timeout: timedelta | float | None
    on_timeout: str
    on_kill_policy: str
    on_uncertain_submit: str
    max_outage: timedelta | float
    on_awaiting_input: str
    reply: Callable[[str], str | None] | None
    assigned_users: HITLUser | Collection[HITLUser] | None
    notifiers: BaseNotifier | Collection[BaseNotifier] | None
    input_timeout: timedelta | float | None
    input_default: str | None
    input_recheck_interval: timedelta | float
    budget: Mapping[str, float] | None
    artifacts_path: str | None
    max_xcom_bytes: int | None


class AirflowOperatorArguments(AirflowArguments):
    """The arguments of ``BaseOperator``."""

    task_id: str


class AirflowSensorArguments(AirflowOperatorArguments, total=False):
    """The arguments of ``BaseSensorOperator`` except ``poke_interval``; Airflow documents them."""

    timeout: timedelta | float | None
    soft_fail: bool
    mode: str
    exponential_backoff: bool
    max_wait: timedelta | float | None
    silent_fail: bool
    never_fail: bool


class ActionOperatorArguments(AirflowOperatorArguments):
    """The arguments that the operators for running agent tasks share."""

    agent_task_id: str
    conn_id: str
    agent_id: NotRequired[str | None]


class AgentTaskOperatorArguments(AgentTaskArguments):
    """The arguments of the services' operators, except each service's own."""

    task_id: str


class LightconeDecoratorArguments(AgentTaskArguments, total=False):
    """The arguments of ``@task.lightcone``, whose function returns the instruction."""

    task_id: str
    kind: str | None
    agent_type: str | None
    model: str | None
    temperature: float | None
    max_steps: int | None
    max_duration_seconds: int | None
    environment_id: str | None
    persistent: bool | None
    save_session: bool | None
    screenshot_mode: str | None
    viewport_width: int | None
    viewport_height: int | None
    idempotency_key: str | None
    metadata: dict[str, str] | None
    start_url: str | None
    system_prompt: str | None
    context: list[dict[str, str]] | None
    computer_id: str | None
    on_missing_computer: str | None
    keep_alive: bool | None
    terminate_on_completion: bool | None
    harness_version: str | None
    stream_mode: str | None
    stream_deltas: bool | None
    thread_id: str | None
    agent_icon: str | None
    conn_id: str
    skip_on_exit_code: int | Collection[int] | None
    no_retry_on_exit_code: int | Collection[int] | None
    stream: bool


class ShinzoDecoratorArguments(AgentTaskArguments, total=False):
    """The arguments of ``@task.shinzo``, whose function returns the message."""

    task_id: str
    agent_id: str | None
    priority: int | None
    timeout_override: float | None
    metadata: dict[str, Any] | None
    callback_mode: str | None
    webhook_url: str | None
    conn_id: str
