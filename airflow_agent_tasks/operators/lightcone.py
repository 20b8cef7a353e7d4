"""The operator that runs an agent task on Lightcone by Tzafon."""

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
    Run an agent task on a Lightcone browser or desktop, and return it with its exit code.

    ```python
    LightconeTaskOperator(
        task_id="order",
        instruction="Order two litres of milk for tomorrow.",
        start_url="https://shop.example",
        deferrable=True,
        timeout=1800,
        retries=2,
    )
    ```

    The arguments from ``instruction`` to ``agent_icon`` are the service's start fields, and all of them are
    templated. Except ``instruction``, which is required, they default to None, which leaves the choice to the
    service. Times are in seconds, as a number or a ``timedelta``. Other keyword arguments (``task_id``,
    ``retries``, ``pool``, …) go to Airflow's ``BaseOperator``.

    The base class ``AgentTaskOperator`` documents retries, clears, XCom keys and callbacks.

    :param instruction: What the agent should do. Required.
    :param kind: The agent's environment, ``"browser"`` or ``"desktop"``. Default None: the service chooses, a
        browser if ``start_url`` is set.
    :param agent_type: For old servers; current ones ignore it.
    :param model: The language model to use.
    :param temperature: The model's sampling temperature, at least 0.
    :param max_steps: Maximum number of steps that the agent may take.
    :param max_duration_seconds: Seconds of run time after which the service cancels the task, as an integer.
    :param environment_id: A saved session to restore (older form of ``computer_id``).
    :param persistent: True keeps the session's state after the task.
    :param save_session: The same as ``persistent``.
    :param screenshot_mode: How events contain screenshots: ``"url"`` or ``"base64"``.
    :param viewport_width: Width of the browser window in pixels.
    :param viewport_height: Height of the browser window in pixels.
    :param idempotency_key: Two starts with the same key start only one agent task. Default: the operator
        creates a key for each agent task, keeps it when it repeats a start whose response was lost, and
        creates a new one after a clear or a failed agent task. If you set a fixed key, a clear or a retry
        after a failure gets the first agent task again.
    :param metadata: Your own labels, a dict of strings to strings.
    :param start_url: The page to open first, an ``http://`` or ``https://`` URL.
    :param system_prompt: Text to append to the agent's own system prompt.
    :param context: Earlier turns, oldest first: ``[{"role": "user" or "assistant", "content": text}]``.
    :param computer_id: A live or saved computer to use.
    :param on_missing_computer: What the service does if ``computer_id`` is not live: ``"fail"``,
        ``"restore"`` or ``"create_new"``.
    :param keep_alive: True keeps the computer after the task.
    :param terminate_on_completion: The opposite of ``keep_alive``.
    :param harness_version: Version of the agent's harness, ``"v1"`` or ``"v2"``.
    :param stream_mode: How detailed the event stream is (see ``stream``): ``"verbose"`` or ``"concise"``.
    :param stream_deltas: True streams the agent's words as they are generated; the log shows sentences.
    :param thread_id: Groups tasks in the service's history.
    :param agent_icon: The icon shown in the service's history.
    :param conn_id: The Airflow connection, of type ``lightcone``. Default ``lightcone_default``. (templated)
    """

    hook_class = LightconeHook
    template_fields: Sequence[str] = (
        "conn_id",
        "artifacts_path",
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
        stream: bool = False,
        **kwargs: Unpack[AgentTaskOperatorArguments],
    ) -> None:
        given = locals()
        super().__init__(
            start_fields={field.name: given[field.name] for field in LightconeHook.dialect.start_fields},
            conn_id=conn_id,
            skip_on_exit_code=skip_on_exit_code,
            no_retry_on_exit_code=no_retry_on_exit_code,
            stream=stream,
            **kwargs,
        )
