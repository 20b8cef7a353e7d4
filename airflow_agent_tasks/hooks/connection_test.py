"""The test of a connection, for the **Test** button in its form and for ``airflow connections test``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.connection_settings import describe_unknown

if TYPE_CHECKING:
    from airflow_agent_tasks.client.settings import ClientSettings
    from airflow_agent_tasks.client.sync_client import SyncClient
    from airflow_agent_tasks.connection_form import ConnectionForm
    from airflow_agent_tasks.services.base import Dialect

#: An id that no service uses for a task or an agent.
NO_SUCH_ID = "airflow-connection-test"


class Hook(Protocol):
    """The parts of a hook that the test uses; a protocol, because ``AgentTaskHook`` imports this module."""

    @property
    def dialect(self) -> Dialect: ...
    @property
    def form(self) -> ConnectionForm: ...
    @property
    def extra(self) -> Mapping[str, Any]: ...
    @property
    def settings(self) -> ClientSettings: ...
    def get_conn(self) -> SyncClient: ...
    def resolve_agent_id(self, agent_id: str | None) -> str | None: ...


def try_connection(hook: Hook) -> tuple[bool, str]:
    """
    Request a task that does not exist; a 404 in JSON means that the service accepted the key.

    :return: Whether the connection works, and a message for the Airflow UI.
    """
    title = hook.dialect.title
    try:
        request = hook.dialect.build_status(NO_SUCH_ID, hook.resolve_agent_id(None) or NO_SUCH_ID)
        # The requested task does not exist, so no message should name it.
        request = replace(request, purpose="check the key")
        response = hook.get_conn().send(request, retries=False)
        if response.status != HTTPStatus.NOT_FOUND:
            hook.dialect.check_status(request, response, now=time.time())
            return False, f"{title} returned a task that does not exist. {_ask_about_host(hook)}"
    except AgentTaskError as error:
        return False, str(error)
    if not response.has_json_object():
        return False, f"The server's response does not come from {title}. {_ask_about_host(hook)}"
    unknown = describe_unknown(hook.extra, hook.form, hook.settings.source)
    return True, f"{title} accepted the key.{unknown and f' {unknown}'}"


def _ask_about_host(hook: Hook) -> str:
    return f"Check the host of {hook.settings.source}: is {hook.settings.host} the address of the service?"
