"""The endpoint in the API server that ``airflow agent-tasks doctor`` asks how the plugin is."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat import deployment
from airflow_agent_tasks.airflow_compat.startup_check import PACKAGE, list_misfits
from airflow_agent_tasks.plugin.signed_orders import read_order, refuse

log = logging.getLogger(__name__)


async def report_health(request: Request) -> JSONResponse:
    """Return the state of the plugin in this API server; 403 if no worker asks, 400 for another order."""
    order = await read_order(request)
    if order is None:
        return refuse()
    # The signature of an order for something else, seen on its way, must not do here.
    if order.get("do") != "report health":
        return JSONResponse({"detail": "This is no order to report the health."}, 400)
    return JSONResponse(await run_in_threadpool(_describe))


def _describe() -> dict[str, Any]:
    """
    Return the version of this package, and what does not fit Airflow here.

    ``database_clock`` is the database's clock minus this server's in seconds, or None if it cannot be read.
    """
    return {
        "version": version(PACKAGE),
        "misfits": [asdict(misfit) for misfit in list_misfits()],
        "database_clock": _compare_database_clock(),
    }


def _compare_database_clock() -> float | None:
    try:
        return deployment.read_database_time() - time.time()
    except Exception as error:
        log.warning("The database's clock could not be read: %s", type(error).__name__)
        return None
