"""
Makes the API server keep the records of agent tasks when their Airflow tasks are cleared.

Every Airflow process imports this module, so it imports the rest only when an API server starts.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS

log = logging.getLogger(__name__)


class RecordKeeping:
    """
    ASGI middleware that does nothing but that, once, when its server starts.

    :param app: The next ASGI app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and AIRFLOW_V_3_4_PLUS:
            _keep_records()
        await self._app(scope, receive, send)


def _keep_records() -> None:
    try:
        from airflow_agent_tasks.airflow_compat.kept_records import keep_records

        keep_records()
    except Exception as error:  # which would keep the server from starting
        log.error("A clear will leave the agent tasks of cleared tasks running: %s", error)  # noqa: TRY400
