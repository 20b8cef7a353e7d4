"""The sandbox as one ASGI application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from airflow_agent_tasks.sandbox.control import ControlRoutes
from airflow_agent_tasks.sandbox.faults import FaultRules
from airflow_agent_tasks.sandbox.lightcone import LightconeRoutes
from airflow_agent_tasks.sandbox.middleware import CutConnection, Gate
from airflow_agent_tasks.sandbox.request_log import RequestLog
from airflow_agent_tasks.sandbox.route_helpers import error_response
from airflow_agent_tasks.sandbox.shinzo import ShinzoRoutes
from airflow_agent_tasks.sandbox.store import TaskStore, steady_clock
from airflow_agent_tasks.sandbox.webhook import WebhookSender


class SandboxApplication:
    """
    Both services and ``/_sandbox``, with all their state.

    :param key: The key that both services accept.
    :param cut: Cuts the connection to a client, for faults with ``drop`` and scripts with ``stream``.
    """

    def __init__(self, key: str, cut: CutConnection) -> None:
        store = TaskStore(steady_clock())
        log = RequestLog(key)
        faults = FaultRules()
        self._webhooks = WebhookSender(store)
        # No documentation pages: a path that the two services do not have must return 404 here as well.
        services = FastAPI(openapi_url=None, redirect_slashes=False)
        services.add_exception_handler(HTTPException, error_response)
        services.include_router(ControlRoutes(store, log, faults, self._webhooks).router)
        services.include_router(LightconeRoutes(store, key, cut).router)
        services.include_router(ShinzoRoutes(store, key, self._webhooks).router)
        self._gate = Gate(services, log=log, faults=faults, now=store.now, cut=cut)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gate(scope, receive, send)

    def close(self) -> None:
        """Cancel everything that waits; call it on the event loop."""
        self._webhooks.close()
        self._gate.close()
