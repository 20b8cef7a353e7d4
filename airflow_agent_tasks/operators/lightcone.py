"""Run an agent task on Lightcone by Tzafon."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.operators.agent_task import AgentTaskOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_agent_tasks.operators.keywords import AgentTaskOperatorArguments


class LightconeTaskOperator(AgentTaskOperator):
    """
    Start an agent task on a Lightcone browser or desktop, wait for it, and return it with its exit code.

    All start fields are templated. The default of each but ``instruction`` is None, which leaves it to the
    service. :class:`AgentTaskOperator` documents the arguments that all services share; Airflow's
    ``BaseOperator`` those of every operator. Source: the service's page "Agent tasks" and its SDK.

    :param instruction: What the agent is to do.
    :param kind: ``"browser"`` or ``"desktop"``; the service's default is a browser when ``start_url`` is set.
    :param agent_type: For old servers; current ones ignore it.
    :param model: The language model to use.
    :param temperature: Its sampling temperature.
    :param max_steps: The most steps that the agent may make.
    :param max_duration_seconds: Seconds after which the service cancels the task.
    :param environment_id: A saved session to restore (older form of ``computer_id``).
    :param persistent: Keep the session's state after the task.
    :param save_session: The same as ``persistent``.
    :param screenshot_mode: ``"url"`` or ``"base64"``: how events give screenshots.
    :param viewport_width: Width of the browser window in pixels.
    :param viewport_height: Height of the browser window in pixels.
    :param idempotency_key: Starts with the same key start one task only. Default: a key for each agent task
        that is meant: retries after a lost answer keep it, a clear or a failed agent task makes a new one.
        With a key of your own, all of these find the first task again, unless the key changes with them.
    :param metadata: Your own labels, text to text.
    :param start_url: The page to open first.
    :param system_prompt: Appended to the agent's own system prompt.
    :param context: Earlier turns, oldest first: ``[{"role": "user" or "assistant", "content": text}]``.
    :param computer_id: A live or saved computer to use.
    :param on_missing_computer: ``"fail"``, ``"restore"`` or ``"create_new"``, if ``computer_id`` is not live.
    :param keep_alive: Keep the computer after the task.
    :param terminate_on_completion: The opposite of ``keep_alive``.
    :param harness_version: ``"v1"`` or ``"v2"``.
    :param stream_mode: ``"verbose"`` or ``"concise"``, for those who read the task's stream.
    :param stream_deltas: Stream the agent's words as they come.
    :param thread_id: Groups tasks in the service's history.
    :param agent_icon: Shown in the service's history.
    :param conn_id: The Airflow connection, of type ``lightcone``. Default ``lightcone_default``. (templated)
    """

    hook_class = LightconeHook
    template_fields: Sequence[str] = (
        "conn_id",
        *(field.name for field in LightconeHook.dialect.start_fields),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "instruction": "md",
        "system_prompt": "md",
        "metadata": "json",
        "context": "json",
    }

    def __init__(
        self,
        *,
        instruction: str,
        kind: str | None = None,
        agent_type: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_steps: int | None = None,
        max_duration_seconds: int | None = None,
        environment_id: str | None = None,
        persistent: bool | None = None,
        save_session: bool | None = None,
        screenshot_mode: str | None = None,
        viewport_width: int | None = None,
        viewport_height: int | None = None,
        idempotency_key: str | None = None,
        metadata: dict[str, str] | None = None,
        start_url: str | None = None,
        system_prompt: str | None = None,
        context: list[dict[str, str]] | None = None,
        computer_id: str | None = None,
        on_missing_computer: str | None = None,
        keep_alive: bool | None = None,
        terminate_on_completion: bool | None = None,
        harness_version: str | None = None,
        stream_mode: str | None = None,
        stream_deltas: bool | None = None,
        thread_id: str | None = None,
        agent_icon: str | None = None,
        conn_id: str = LightconeHook.default_conn_name,
        skip_on_exit_code: int | Collection[int] | None = None,
        no_retry_on_exit_code: int | Collection[int] | None = None,
        **kwargs: Unpack[AgentTaskOperatorArguments],
    ) -> None:
        given = locals()
        super().__init__(
            start_fields={field.name: given[field.name] for field in LightconeHook.dialect.start_fields},
            conn_id=conn_id,
            skip_on_exit_code=skip_on_exit_code,
            no_retry_on_exit_code=no_retry_on_exit_code,
            **kwargs,
        )
