"""
The receiver in the API server that services call when an agent task changes.

A call is a hint: the woken task asks its service itself. Every call gets the same empty response, and gets it
before anything but the body is looked at, so a caller learns nothing about tokens or tasks.
"""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_agent_tasks.callbacks.settings import PATH
from airflow_agent_tasks.callbacks.token import read_token
from airflow_agent_tasks.plugin.bounded_body import read_body
from airflow_agent_tasks.plugin.callback_secrets import get_secrets
from airflow_agent_tasks.plugin.wake_ups import WakeUps

#: Maximum size of a body in bytes. It is read so that the caller gets a response, and thrown away.
MAX_BODY = 64 * 1024
#: Seconds for a body to arrive.
MAX_SECONDS = 5.0


class CallbackReceiver:
    """
    ASGI app that receives callbacks, and passes all other requests on.

    It stands in front of Airflow's own middlewares. They would make a call several times as expensive, so
    that a flood of forged ones would slow down the UI, and write its token to the access log.

    :param app: Airflow's app with its middlewares.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._wake_ups = WakeUps()
        self._secrets = get_secrets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a callback, and then wake the task that its token names."""
        token = _find_token(scope)
        if token is None:
            await self._app(scope, receive, send)
            return
        body = await read_body(Request(scope, receive), MAX_BODY, MAX_SECONDS)
        # The rest of a body would be taken for the next request.
        headers = {"connection": "close"} if body is None else None
        await Response(status_code=202, headers=headers)(scope, receive, send)
        named = read_token(self._secrets, token, now=time.time())
        if named is not None:
            self._wake_ups.request(named)


def _find_token(scope: Scope) -> str | None:
    """Return what a request has in the place of a token, or None if it is not a callback."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    return path.removeprefix(PATH) if path.startswith(PATH) else None
