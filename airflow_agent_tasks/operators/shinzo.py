"""The operator that runs a task of a Shinzo agent."""

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
    Run a task of a Shinzo agent, and return it with its result.

    ```python
    ShinzoTaskOperator(
        task_id="check_supplier",
        message="Find out whether we can rely on Contoso. Ask before you spend money.",
        deferrable=True,
        input_timeout=3 * 24 * 3600,
        retries=2,
    )
    ```

    The argument ``message`` and those from ``priority`` to ``webhook_url`` are the service's submit fields,
    and all of them are templated. Except ``message``, which is required, they default to None, which leaves
    the choice to the service. Times are in seconds, as a number or a ``timedelta``. Other keyword arguments
    (``task_id``, ``retries``, ``pool``, …) go to Airflow's ``BaseOperator``.

    The base class ``AgentTaskOperator`` documents retries, clears, XCom keys and callbacks.

    :param message: What the agent should do. Required.
    :param agent_id: The agent that runs the task. Default None: the connection's ``agent_id``. (templated)
    :param priority: An integer from 1 (lowest) to 10 (highest); the service's default is 5.
    :param timeout_override: Seconds after which the service ends the task, as a number; overrides the agent's
        own limit.
    :param metadata: Your own labels, any JSON object.
    :param callback_mode: ``"webhook"`` lets the service call Airflow's API server when the agent asks a
        question or has ended. Then the waiting task wakes at once, and a deferred one polls only every 300
        seconds, unless you set ``poll_interval``. It needs the settings ``[agent_tasks] callback_base_url``
        and ``callback_secret``, unless their defaults fit. ``"poll"`` is the service's default.
    :param webhook_url: The URL that the service calls instead of Airflow, which then polls as usual. Not
        allowed without ``callback_mode="webhook"``.
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
