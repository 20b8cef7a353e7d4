"""
The endpoint in the API server that services call when an agent task changes.

A call is a hint: the woken task asks its service itself. Every call gets the same empty response, and gets it
before anything but the body is looked at, so a caller learns nothing about tokens or tasks.
"""

from __future__ import annotations

import time
from functools import cached_property

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_agent_tasks.callbacks.settings import read_secrets
from airflow_agent_tasks.callbacks.token import read_token
from airflow_agent_tasks.plugin.wake_ups import WakeUps

#: Maximum size of a body in bytes. It is read so that the caller gets a response, and thrown away.
MAX_BODY = 64 * 1024
#: Seconds for a body to arrive.
MAX_SECONDS = 5.0

_wake_ups = WakeUps()


class ReceiveCallback:
    """Accepts a call; an ASGI app."""

    @cached_property
    def _secrets(self) -> list[str]:
        # Read once: Airflow may run a command to get them.
        return read_secrets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, and then wake the task that the token names."""
        request = Request(scope, receive)
        given: str = request.path_params["token"]
        # For Airflow's access log, which is written after the response.
        scope["path"] = f"{scope['path'].removesuffix(given)}***"
        is_complete = await _drain(request)
        # The rest of a body would be taken for the next request.
        headers = None if is_complete else {"connection": "close"}
        await Response(status_code=202, headers=headers)(scope, receive, send)
        token = read_token(self._secrets, given, now=time.time())
        if token is not None:
            _wake_ups.request(token)


async def _drain(request: Request) -> bool:
    """Read the body and throw it away; return False if it is too large or too slow."""
    size = 0
    try:
        with anyio.fail_after(MAX_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY:
                    break
    except (TimeoutError, ClientDisconnect):
        return False
    return size <= MAX_BODY
