"""Requests to Airflow's API server, and signed ones to this package's plugin there. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError, AgentTaskUnavailableError
from airflow_agent_tasks.services.http import Request

if TYPE_CHECKING:
    from airflow_agent_tasks.services.http import Response

#: Seconds for the API server to answer.
TIMEOUT = 10.0
#: The token of a request that needs none: the client always sends one.
NO_TOKEN = "none"  # noqa: S105 - not a secret
#: Airflow's own default for ``[api] base_url``.
DEFAULT_SERVER = "http://localhost:8080"


def find_page() -> str:
    """Return the URL of the Airflow UI, without a slash at its end."""
    page = conf.get("api", "base_url", fallback=None) or "/"
    return (DEFAULT_SERVER + page if page.startswith("/") else page).rstrip("/")


def list_servers() -> Iterable[str]:
    """Return the API servers' URLs; the first is the one for workers, which may serve nothing else."""
    page = find_page()
    workers = conf.get("core", "execution_api_server_url", fallback=None) or page
    return dict.fromkeys((workers.rstrip("/").removesuffix("/execution"), page))


def order_plugin(path: str, purpose: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Send an order to this package's plugin in the API server, and return its reply.

    :param path: The path of the endpoint.
    :param purpose: What the order is for, as in "change the form".
    :param order: The order.
    :raises AgentTaskCancelledError: if the Airflow task that it is about no longer runs.
    :raises AgentTaskUnavailableError: if no API server has carried it out.
    """
    reasons = []
    for server in list_servers():
        try:
            return _read_reply(server, send_order(server, Request("POST", path, purpose, json=order)))
        except AgentTaskCancelledError:
            raise
        except AgentTaskError as error:
            reasons.append(str(error))
    raise AgentTaskUnavailableError(" ".join(reasons))


def _read_reply(server: str, response: Response) -> Mapping[str, Any]:
    if response.status == HTTPStatus.CONFLICT:
        raise AgentTaskCancelledError(
            "This Airflow task is no longer running, because someone marked or cleared it."
        )
    try:
        reply = response.to_json() if response.status == HTTPStatus.OK else None
    except ValueError:
        reply = None
    if not isinstance(reply, Mapping):
        raise AgentTaskError(f"{server} responded with status {response.status}.")
    return reply


def send_order(server: str, request: Request, *, retries: bool = True) -> Response:
    """
    Send a request, signed with ``[api] secret_key``, and return the response, whatever its status.

    :param server: One of ``list_servers``.
    :param request: The request; its JSON is the order.
    :param retries: False for a single attempt; default True.
    :raises AgentTaskError: if no response came.
    """
    # Imported here, because every DAG file imports this module: requests takes 50 ms, and more under load.
    from airflow_agent_tasks.airflow_compat.worker_request_signature import sign

    token = sign(conf.get("api", "secret_key", fallback=None) or "", request.json or {})
    return send(server, request, token, retries=retries)


def send(server: str, request: Request, token: str = NO_TOKEN, *, retries: bool = True) -> Response:
    """
    Send a request, and return the response, whatever its status.

    :param server: One of ``list_servers``.
    :param request: The request.
    :param token: The bearer token; default none.
    :param retries: False for a single attempt; default True.
    :raises AgentTaskError: if no response came.
    """
    # Imported here for the same reason.
    from airflow_agent_tasks.client.sync_client import SyncClient

    settings = ClientSettings(
        server,
        token,
        timeout=TIMEOUT,
        verify=conf.get("api", "ssl_cert", fallback=None) or True,
        allow_insecure_http=True,  # The worker's other requests use the same URL.
        source="Airflow's API server",
    )
    client = SyncClient(settings)
    try:
        return client.send(request, retries=retries)
    finally:
        client.close()
