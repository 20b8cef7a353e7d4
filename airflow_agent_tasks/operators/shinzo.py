"""Run a task of a Shinzo agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from airflow_agent_tasks.operators.agent_task import AgentTaskOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_agent_tasks.operators.keywords import AgentTaskOperatorArguments


class ShinzoTaskOperator(AgentTaskOperator):
    """
    Submit a task to a Shinzo agent, wait for it, and return it with its result.

    All submit fields are templated. The default of each but ``message`` is None, which leaves it to the
    service. :class:`AgentTaskOperator` documents the arguments that all services share; Airflow's
    ``BaseOperator`` those of every operator. Source: the service's page "Task Management".

    :param message: What the agent is to do.
    :param agent_id: The agent that runs the task. Default None: ``agent_id`` of the connection. (templated)
    :param priority: 1 (lowest) to 10; the service's default is 5.
    :param timeout_override: Seconds after which the service ends the task, instead of the agent's own limit.
    :param metadata: Your own labels, any JSON object.
    :param callback_mode: ``"poll"`` (the service's default) or ``"webhook"``. Airflow polls with both.
    :param webhook_url: The URL that the service calls at the end; required with ``callback_mode="webhook"``.
    :param conn_id: The Airflow connection, of type ``shinzo``. Default ``shinzo_default``. (templated)
    """

    hook_class = ShinzoHook
    template_fields: Sequence[str] = (
        *AgentTaskOperator.template_fields,
        *(field.name for field in ShinzoHook.dialect.start_fields),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"message": "md", "metadata": "json"}

    def __init__(
        self,
        *,
        message: str,
        agent_id: str | None = None,
        priority: int | None = None,
        timeout_override: float | None = None,
        metadata: dict[str, Any] | None = None,
        callback_mode: str | None = None,
        webhook_url: str | None = None,
        conn_id: str = ShinzoHook.default_conn_name,
        **kwargs: Unpack[AgentTaskOperatorArguments],
    ) -> None:
        super().__init__(
            start_fields={
                "message": message,
                "priority": priority,
                "timeout_override": timeout_override,
                "metadata": metadata,
                "callback_mode": callback_mode,
                "webhook_url": webhook_url,
            },
            agent_id=agent_id,
            conn_id=conn_id,
            **kwargs,
        )
