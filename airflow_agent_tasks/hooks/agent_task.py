"""The base hook of all agent services: connection → settings → client, and the calls for DAG authors."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.connection_form import ConnectionForm
from airflow_agent_tasks.errors import AgentTaskRejectedError
from airflow_agent_tasks.hooks.connection_settings import (
    build_settings,
    connection_not_found,
    describe_unknown,
    list_secrets,
    read_extra,
)
from airflow_agent_tasks.hooks.connection_test import try_connection
from airflow_agent_tasks.hooks.event_batches import EventBatches, list_events
from airflow_agent_tasks.services.base import Capability, Dialect
from airflow_agent_tasks.services.http import KEPT_REQUESTS, Request, Response

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_agent_tasks.client.async_client import AsyncClient
    from airflow_agent_tasks.client.sync_client import SyncClient


class AgentTaskHook(BaseHook):
    """
    Call an agent service with the credentials of an Airflow connection.

    To add a service, write a subclass with its ``dialect`` and ``form``, and register it under its own
    connection type. Operators, triggers and sensors find it through the connection.

    :param conn_id: The Airflow connection. Its password is the key, and its host the base URL.
    """

    dialect: ClassVar[Dialect]
    form: ClassVar[ConnectionForm]
    conn_name_attr: ClassVar[str]
    default_conn_name: ClassVar[str]
    conn_type: ClassVar[str]
    hook_name: ClassVar[str]
    async_client: AsyncClient

    def __init__(self, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the connection form shows its standard fields."""
        return cls.form.build_field_behaviour()

    def get_conn(self) -> SyncClient:
        """Return the client, created once from the connection."""
        return self._client

    def start_task(self, *, agent_id: str | None = None, **fields: Any) -> AgentTask:
        """
        Start an agent task without waiting for it.

        If a start may have been carried out, it is not sent again unless it has an ``idempotency_key``.

        :param agent_id: The agent that should run the task, on services where you choose one (Shinzo).
            Default None: the connection's ``agent_id``.
        :param fields: The service's own start fields; None means "not given".
        :return: The agent task as the service describes it.
        :raises AgentTaskArgumentError: for an invalid field, before anything is sent.
        :raises AgentTaskUncertainError: if the start was sent and got no clear response.
        :raises AgentTaskRequestError: if the service rejected it or could not be reached.
        """
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_start(fields, agent_id=agent_id)
        response = self._client.send(request)
        return self.dialect.parse_started(request, response, agent_id=agent_id, now=time.time())

    def stream_task(self, *, agent_id: str | None = None, **fields: Any) -> Iterator[dict[str, Any]]:
        """
        Start an agent task and yield its events as they arrive, each a dict with the service's own keys.

        A broken stream is not restarted, because that would start a second agent task.

        :param agent_id: The agent that should run the task, on services where you choose one (Shinzo).
            Default None: the connection's ``agent_id``.
        :param fields: The service's own start fields; None means "not given".
        :raises AgentTaskNotSupportedError: if the service has no stream.
        :raises AgentTaskRequestError: if the service rejected the start or the stream broke.
        """
        return list_events(self.open_stream(agent_id=agent_id, **fields))

    def open_stream(self, *, agent_id: str | None = None, **fields: Any) -> EventBatches:
        """
        Return the events of ``stream_task``, with the same parameters, in lists as they arrive together.

        :raises AgentTaskNotSupportedError: if the service has no stream.
        """
        request = self.dialect.build_stream(fields, agent_id=self.resolve_agent_id(agent_id))
        return EventBatches(self._client, self.dialect, request)

    def get_task(
        self, task_id: str, agent_id: str | None = None, *, retries: bool = True, has_result: bool = True
    ) -> AgentTask:
        """
        Get an agent task.

        :param task_id: The service's id of the agent task.
        :param agent_id: The agent that runs the task. Default None: the connection's ``agent_id``.
        :param retries: False for a single attempt, if the caller retries. Default True.
        :param has_result: False to skip the result, which may be large, if you need only the state. Default
            True.
        :raises AgentTaskNotFoundError: if the service has no such task.
        :raises AgentTaskRequestError: if the service rejected the request or could not be reached.
        """
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_status(task_id, agent_id)
        response = self._client.send(request, retries=retries)
        return self._parse(request, response, task_id, agent_id, has_result=has_result)

    async def aget_task(
        self, task_id: str, agent_id: str | None = None, *, retries: bool = False
    ) -> AgentTask:
        """Get an agent task, without its result, from an event loop; by default in a single attempt."""
        agent_id = self.resolve_agent_id(agent_id)
        request = self._build_status(task_id, agent_id)
        response = await self.async_client.send(request, retries=retries)
        return self._parse(request, response, task_id, agent_id, has_result=False)

    def send_message(self, task_id: str, message: str, agent_id: str | None = None) -> AgentTask:
        """Send a message to a running agent task, or the reply to one that awaits input."""
        return self._act(Capability.MESSAGE, task_id, agent_id, message=message)

    def pause_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Pause a running agent task; raises AgentTaskNotSupportedError if the service cannot."""
        return self._act(Capability.PAUSE, task_id, agent_id)

    def resume_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Resume a paused agent task; raises AgentTaskNotSupportedError if the service cannot."""
        return self._act(Capability.RESUME, task_id, agent_id)

    def cancel_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Cancel an agent task; raises AgentTaskNotSupportedError if the service cannot."""
        return self._act(Capability.CANCEL, task_id, agent_id)

    def stop_task(self, task_id: str, agent_id: str | None = None, *, retries: bool = True) -> AgentTask:
        """
        Stop an agent task: cancel it, or pause it if the service has no cancel.

        :param retries: False for a single attempt. Default True.
        :return: The agent task, without its result, as reported by a status check after the stop: the
            response to the stop alone proves nothing. An agent task that had already ended is returned
            unchanged.
        """
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_action(self.dialect.stop_capability, task_id, agent_id)
        response = self._client.send(request, retries=retries)
        refusal = self.dialect.check_stop(request, response, now=time.time())
        task = self.get_task(task_id, agent_id, retries=retries, has_result=False)
        return _require_end(task, refusal)

    async def astop_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Stop an agent task from an event loop, and return it without its result; see ``stop_task``."""
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_action(self.dialect.stop_capability, task_id, agent_id)
        response = await self.async_client.send(request)
        refusal = self.dialect.check_stop(request, response, now=time.time())
        return _require_end(await self.aget_task(task_id, agent_id, retries=True), refusal)

    def fork(self) -> AgentTaskHook:
        """Return a hook for the same connection with a client of its own, for another thread."""
        hook = copy.copy(self)
        hook.__dict__.pop("_client", None)
        return hook

    def test_connection(self) -> tuple[bool, str]:
        """
        Request a task that does not exist; a 404 in JSON means that the service accepted the key.

        :return: Whether the connection works, and a message for the Airflow UI.
        """
        return try_connection(self)

    def resolve_agent_id(self, agent_id: str | None) -> str | None:
        """Return the given agent, else the connection's default agent, if the service has agents."""
        return agent_id

    @cached_property
    def connection(self) -> Connection | None:
        """The Airflow connection, or None if the environment replaces it."""
        try:
            return self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            return None

    @cached_property
    def extra(self) -> Mapping[str, Any]:
        """The connection's extra; raises AgentTaskConfigurationError if it is not a JSON object."""
        return read_extra(self.connection) if self.connection else {}

    @cached_property
    def settings(self) -> ClientSettings:
        """Where to send requests and how; raises AgentTaskConfigurationError for unusable settings."""
        settings = self.build_settings(self.connection, self.extra)
        for secret in list_secrets(settings):
            mask_secret(secret)
        if unknown := describe_unknown(self.extra, self.form, settings.source):
            self.log.warning("%s", unknown)
        return settings

    async def aload(self, connection: Connection | None) -> None:
        """Load the settings from a connection that the caller looked up on an event loop."""
        self.connection = connection
        settings = self.build_settings(connection, self.extra)
        for secret in list_secrets(settings):
            await amask_secret(secret)
        self.settings = settings

    async def aopen(self) -> None:
        """Open the client of the async methods, for one event loop."""
        # In a thread: the import would block the triggerer's event loop for 100 ms.
        aio = await asyncio.to_thread(import_module, "airflow_agent_tasks.client.async_client")
        self.async_client = await aio.AsyncClient.open(self.settings)

    async def aclose(self) -> None:
        """Close the client that ``aopen`` opened."""
        await self.async_client.close()

    def build_settings(self, connection: Connection | None, extra: Mapping[str, Any]) -> ClientSettings:
        """Return the settings of the connection, or else those of the environment."""
        if connection is not None:
            return build_settings(connection, extra, self.dialect)
        if settings := self.read_environment(self.conn_id):
            return settings
        raise connection_not_found(self.conn_id)

    @classmethod
    def read_environment(cls, conn_id: str) -> ClientSettings | None:
        """Return the settings from the service's own environment variables, or None."""
        return None

    @cached_property
    def _client(self) -> SyncClient:
        # Imported here: the triggerer does not need it, and the import would block its event loop for 200 ms.
        from airflow_agent_tasks.client.sync_client import SyncClient

        return SyncClient(self.settings)

    @cached_property
    def _build_status(self) -> Callable[[str, str | None], Request]:
        # Kept for each waiting task, because each poll would build it again.
        return lru_cache(KEPT_REQUESTS)(self.dialect.build_status)

    def _act(
        self,
        capability: Capability,
        task_id: str,
        agent_id: str | None,
        *,
        message: str | None = None,
        retries: bool = True,
    ) -> AgentTask:
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_action(capability, task_id, agent_id, message=message)
        return self._parse(request, self._client.send(request, retries=retries), task_id, agent_id)

    def _parse(
        self,
        request: Request,
        response: Response,
        task_id: str,
        agent_id: str | None,
        *,
        has_result: bool = True,
    ) -> AgentTask:
        return self.dialect.parse_task(
            request, response, task_id=task_id, agent_id=agent_id, now=time.time(), has_result=has_result
        )


def _require_end(task: AgentTask, refusal: AgentTaskRejectedError | None) -> AgentTask:
    if refusal and not task.is_stopped:
        raise refusal
    return task
