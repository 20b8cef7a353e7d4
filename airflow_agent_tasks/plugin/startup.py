"""
What this package does when an API server, a scheduler or a triggerer starts.

Every Airflow process imports this module, so it imports the rest only when one of these starts.
"""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.plugin.clears import handle_clears


class Startup:
    """
    ASGI middleware that does nothing but :func:`prepare` when the server builds it, before the first request.

    :param app: The next ASGI app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        prepare()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def prepare() -> None:
    """Report what does not fit the Airflow that runs, and handle its clears; never raises."""
    from airflow_agent_tasks.airflow_compat.startup_check import check_private_parts

    check_private_parts()
    handle_clears()
