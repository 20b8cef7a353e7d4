"""
Orders from workers to the API server.

An order is signed with ``[api] secret_key``, and its signature is valid for a minute. All orders without a
valid signature get the same response, before anything but the signature is read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.secret_key import read_secret_key
from airflow_agent_tasks.airflow_compat.worker_request_signature import REFUSAL, is_signed, read_digest
from airflow_agent_tasks.plugin.bounded_body import read_body
from airflow_agent_tasks.text import shorten

log = logging.getLogger(__name__)

#: Maximum size of an order in bytes: the longest form has less than half of that.
MAX_ORDER = 128 * 1024
#: Seconds for an order to arrive: its worker waits equally long for the whole response.
MAX_SECONDS = 10.0

Order = TypeVar("Order")


def take_orders(
    kind: Any, carry_out: Callable[[Order], JSONResponse], *, threads: int | None = None
) -> Callable[[Request], Awaitable[JSONResponse]]:
    """
    Return an endpoint that accepts signed orders.

    It responds with 403 if the order has no valid signature, with 400 if it is of another kind, and with 503
    if it could not be carried out.

    :param kind: The type of the orders, for msgspec.
    :param carry_out: Carries an order out, in a thread, and returns the response.
    :param threads: How many orders are carried out at a time; the others wait. Default None: in the threads
        of the server's other endpoints.
    """
    limiter = None if threads is None else anyio.CapacityLimiter(threads)

    async def endpoint(request: Request) -> JSONResponse:
        try:
            given = await _read_signed(request)
            if given is None:
                return JSONResponse({"detail": REFUSAL}, 403)
            try:
                order = msgspec.convert(given, kind)
            except (msgspec.ValidationError, ValueError, RecursionError) as error:
                return JSONResponse({"detail": f"The order is malformed: {shorten(str(error))}"}, 400)
            return await anyio.to_thread.run_sync(carry_out, order, limiter=limiter)
        except Exception as error:
            # Only the type: a database quotes the order's text in its message and traceback.
            log.error("Could not carry out an order from a worker: %s", type(error).__name__)  # noqa: TRY400
            return JSONResponse({"detail": "The order was not carried out; see the API server's log."}, 503)

    return endpoint


async def _read_signed(request: Request) -> Mapping[str, Any] | None:
    """Return the content of a request, or None if no worker of this Airflow has signed it."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    # Without a key, this server cannot recognise a worker.
    key = read_secret_key()
    if not key or read_digest(key, token) is None:
        return None
    try:
        order = json.loads(await read_body(request, MAX_ORDER, MAX_SECONDS) or b"")
        return order if isinstance(order, dict) and is_signed(key, order, token) else None
    except (ValueError, RecursionError):
        return None
