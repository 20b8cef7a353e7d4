"""The endpoint in the API server through which ``airflow agent-tasks doctor`` checks the plugin."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Literal

from msgspec import Struct
from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat import deployment
from airflow_agent_tasks.airflow_compat.startup_check import PACKAGE, list_misfits
from airflow_agent_tasks.callbacks.token import read_token
from airflow_agent_tasks.plugin.callback_secrets import get_secrets
from airflow_agent_tasks.plugin.signed_orders import take_orders

log = logging.getLogger(__name__)


class ReportHealth(Struct, frozen=True):
    """
    The order. A type of its own, so that an intercepted signature of another order is not valid here.

    :param callback_token: A token that the sender has made for a callback; default None.
    """

    do: Literal["report health"]
    callback_token: str | None = None


def _report(order: ReportHealth) -> JSONResponse:
    """
    Return the version of this package, and the parts that do not fit this server's Airflow.

    ``database_clock`` is the database's clock minus this server's in seconds, or None if it cannot be read.
    ``accepts_callbacks`` says whether this server recognises the order's token.
    """
    token = read_token(get_secrets(), order.callback_token or "", now=time.time())
    return JSONResponse(
        {
            "version": version(PACKAGE),
            "misfits": [asdict(misfit) for misfit in list_misfits()],
            "database_clock": _compare_database_clock(),
            "accepts_callbacks": token is not None,
        }
    )


def _compare_database_clock() -> float | None:
    try:
        return deployment.read_database_time() - time.time()
    except Exception as error:
        log.warning("Could not read the database's clock: %s", type(error).__name__)
        return None


report_health = take_orders(ReportHealth, _report)
