"""The hook of every agent service: connection → credentials → client, and the calls of a DAG author."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import amask_secret, mask_secret

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRejectedError
from airflow_agent_tasks.hooks.connection_form import ConnectionForm
from airflow_agent_tasks.hooks.connection_settings import (
    build_settings,
    connection_not_found,
    list_secrets,
    read_extra,
)
from airflow_agent_tasks.services.base import HAS_ENDED, Capability, Dialect
from airflow_agent_tasks.services.event_stream import EventStreamParser
from airflow_agent_tasks.services.http import Request, Response

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_agent_tasks.client.async_client import AsyncClient
    from airflow_agent_tasks.client.sync_client import SyncClient

#: The id of a task that no service has, for ``test_connection``.
NO_SUCH_TASK = "airflow-connection-test"


class AgentTaskHook(BaseHook):
    """
    Talk to an agent service with the credentials of an Airflow connection.

    A service is added by a subclass that names its ``dialect`` and ``form``, registered under its own
    connection type; operators, triggers and sensors find it by the connection.

    :param conn_id: The Airflow connection. Its password is the key, its host the base URL.
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
        """Return how the connection form treats its standard fields."""
        return cls.form.build_field_behaviour()

    def get_conn(self) -> SyncClient:
        """Return the client, made once from the connection."""
        return self._client

    def start_task(self, *, agent_id: str | None = None, **fields: Any) -> AgentTask:
        """
        Start an agent task and return it as the service describes it, without waiting.

        A start that may have been carried out is not sent again, unless it has an ``idempotency_key``.

        :param agent_id: The agent that is to run it, on services that have agents.
        :param fields: The service's own start fields; None means "not given".
        :raises AgentTaskArgumentError: for a field that is wrong, before anything is sent.
        :raises AgentTaskUncertainError: when the start was sent and no clear answer came.
        :raises AgentTaskRequestError: when the service refused it or could not be reached.
        """
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_start(fields, agent_id=agent_id)
        response = self._client.send(request)
        return self.dialect.parse_started(request, response, agent_id=agent_id, now=time.time())

    def stream_task(self, *, agent_id: str | None = None, **fields: Any) -> Iterator[dict[str, Any]]:
        """
        Start an agent task and yield its events as they come, each a dict with the service's own keys.

        A stream that ends early is not begun again, since that would start a second task.

        :param agent_id: The agent that is to run it, on services that have agents.
        :param fields: The service's own start fields.
        :raises AgentTaskNotSupportedError: where the service has no stream.
        :raises AgentTaskRequestError: when the service refused the start or the stream broke.
        """
        request = self.dialect.build_stream(fields, agent_id=self.resolve_agent_id(agent_id))
        return self._read_events(request)

    def get_task(self, task_id: str, agent_id: str | None = None, *, retries: bool = True) -> AgentTask:
        """
        Ask for an agent task's state.

        :param task_id: The service's id of the task.
        :param agent_id: The agent that runs it; default: the connection's.
        :param retries: False to ask once only, for callers that wait by themselves.
        :raises AgentTaskNotFoundError: when the service knows no such task.
        :raises AgentTaskRequestError: when the service refused or could not be reached.
        """
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_status(task_id, agent_id)
        response = self._client.send(request, retries=retries)
        return self.dialect.parse_task(request, response, task_id=task_id, agent_id=agent_id, now=time.time())

    async def aget_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Ask once for an agent task's state from an event loop; its result is left unread."""
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_status(task_id, agent_id)
        response = await self.async_client.send(request, retries=False)
        return self.dialect.parse_task(
            request, response, task_id=task_id, agent_id=agent_id, now=time.time(), has_result=False
        )

    def send_message(self, task_id: str, message: str, agent_id: str | None = None) -> AgentTask:
        """Send a message into a running agent task, or the answer to one that awaits input."""
        return self._act(Capability.MESSAGE, task_id, agent_id, message=message)

    def pause_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Pause a running agent task; raises AgentTaskNotSupportedError where the service cannot."""
        return self._act(Capability.PAUSE, task_id, agent_id)

    def resume_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Resume a paused agent task; raises AgentTaskNotSupportedError where the service cannot."""
        return self._act(Capability.RESUME, task_id, agent_id)

    def cancel_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Cancel an agent task; raises AgentTaskNotSupportedError where the service cannot."""
        return self._act(Capability.CANCEL, task_id, agent_id)

    def stop_task(self, task_id: str, agent_id: str | None = None, *, retries: bool = True) -> AgentTask:
        """
        Stop an agent task that nobody waits for: cancel it, or pause it where there is no cancel.

        One that had ended already is returned as it is.
        """
        try:
            return self._act(self.dialect.stop_capability, task_id, agent_id, retries=retries)
        except AgentTaskRejectedError as error:
            if error.status not in HAS_ENDED:
                raise
            return _require_end(self.get_task(task_id, agent_id, retries=retries), error)

    async def astop_task(self, task_id: str, agent_id: str | None = None) -> AgentTask:
        """Stop an agent task from an event loop; see :meth:`stop_task`."""
        agent_id = self.resolve_agent_id(agent_id)
        request = self.dialect.build_action(self.dialect.stop_capability, task_id, agent_id)
        response = await self.async_client.send(request)
        try:
            return self.dialect.parse_task(
                request, response, task_id=task_id, agent_id=agent_id, now=time.time()
            )
        except AgentTaskRejectedError as error:
            if error.status not in HAS_ENDED:
                raise
            return _require_end(await self.aget_task(task_id, agent_id), error)

    def fork(self) -> AgentTaskHook:
        """Return a hook for the same connection with a client of its own, for another thread."""
        hook = copy.copy(self)
        hook.__dict__.pop("_client", None)
        return hook

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask for a task that cannot exist: a 404 in JSON means that the address and the key are good.

        :return: Whether it works, and a sentence for the page.
        """
        title = self.dialect.title
        try:
            request = self.dialect.build_status(NO_SUCH_TASK, self.resolve_agent_id(None) or NO_SUCH_TASK)
            response = self._client.send(request, retries=False)
            if response.status != HTTPStatus.NOT_FOUND:
                self.dialect.check_status(request, response, now=time.time())
                return False, f"{title} knows a task that cannot exist. {self._doubt_host()}"
        except AgentTaskError as error:
            return False, str(error)
        if not _is_json_object(response):
            return False, f"A server answers, but not as {title} would. {self._doubt_host()}"
        return True, f"{title} answers and takes the key."

    def resolve_agent_id(self, agent_id: str | None) -> str | None:
        """Return the given agent, else the connection's default agent, where the service has agents."""
        return agent_id

    @cached_property
    def connection(self) -> Connection | None:
        """The Airflow connection, or None where the environment serves in its place."""
        try:
            return self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            return None

    @cached_property
    def extra(self) -> Mapping[str, Any]:
        """The connection's extra; raises AgentTaskConfigurationError where it is no JSON object."""
        return read_extra(self.connection) if self.connection else {}

    @cached_property
    def settings(self) -> ClientSettings:
        """Where and how to send requests; raises AgentTaskConfigurationError where that cannot work."""
        settings = self.build_settings(self.connection, self.extra)
        for secret in list_secrets(settings):
            mask_secret(secret)
        return settings

    async def aload(self, connection: Connection | None) -> None:
        """Take the settings from a connection that was looked up from an event loop."""
        self.connection = connection
        settings = self.build_settings(connection, self.extra)
        for secret in list_secrets(settings):
            await amask_secret(secret)
        self.settings = settings

    async def aopen(self) -> None:
        """Open the client of the methods with an ``a`` in front, for one event loop."""
        # In a thread: the import takes 100 ms, during which the triggerer's event loop would stand still.
        aio = await asyncio.to_thread(import_module, "airflow_agent_tasks.client.async_client")
        self.async_client = await aio.AsyncClient.open(self.settings)

    async def aclose(self) -> None:
        """Close what :meth:`aopen` has opened."""
        await self.async_client.close()

    def build_settings(self, connection: Connection | None, extra: Mapping[str, Any]) -> ClientSettings:
        """Return the settings of a connection, or those of the environment where there is none."""
        if connection is not None:
            return build_settings(connection, extra, default_base_url=self.dialect.default_base_url)
        if settings := self.read_environment(self.conn_id):
            return settings
        raise connection_not_found(self.conn_id)

    @classmethod
    def read_environment(cls, conn_id: str) -> ClientSettings | None:
        """Return the settings that the service's own environment variables give, or None."""
        return None

    @cached_property
    def _client(self) -> SyncClient:
        # Imported here: the triggerer does without it, and its event loop would stand still for 200 ms.
        from airflow_agent_tasks.client.sync_client import SyncClient

        return SyncClient(self.settings)

    def _doubt_host(self) -> str:
        return f"Check the host of {self.settings.source}: is {self.settings.host} the service's address?"

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
        response = self._client.send(request, retries=retries)
        return self.dialect.parse_task(request, response, task_id=task_id, agent_id=agent_id, now=time.time())

    def _read_events(self, request: Request) -> Iterator[dict[str, Any]]:
        parser = EventStreamParser()
        with self._client.stream(request) as (response, chunks):
            self.dialect.check_status(request, response, now=time.time())
            for chunk in chunks:
                yield from parser.feed(chunk)
            yield from parser.finish()


def _is_json_object(response: Response) -> bool:
    try:
        return isinstance(response.to_json(), dict)
    except ValueError:
        return False


def _require_end(task: AgentTask, refusal: AgentTaskRejectedError) -> AgentTask:
    if not task.is_terminal:
        raise refusal
    return task
