"""
The endpoint in the API server with which a worker changes the form of its task: show, read or close it.

A worker's order is signed with ``[api] secret_key``, and its signature is valid for a minute. It is carried
out only while its task instance runs: otherwise a worker could change the forms of tasks that ended long ago.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from airflow_agent_tasks.airflow_compat.form_rows import carry_out, read_secret_key
from airflow_agent_tasks.airflow_compat.worker_request_signature import is_signed

#: Bytes of an order: the longest form has less than half of it.
MAX_ORDER = 128 * 1024


async def change_form(request: Request) -> JSONResponse:
    """Carry out an order: 200 with its outcome, 403 if it is not signed, 409 if its task no longer runs."""
    order = _parse(await _receive(request))
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    # Without a key this server cannot tell a worker from anyone else.
    key = read_secret_key()
    if order is None or not key or not is_signed(key, order, token):
        return JSONResponse({"detail": "This order is not signed by a worker of this Airflow."}, 403)
    outcome = await run_in_threadpool(carry_out, order)
    if outcome is None:
        return JSONResponse({"detail": "This task is no longer running."}, 409)
    return JSONResponse(outcome)


async def _receive(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ORDER:
            return b""
    return bytes(body)


def _parse(body: bytes) -> Mapping[str, Any] | None:
    try:
        order = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return order if isinstance(order, dict) else None


app = Starlette(routes=[Route("/required-action", change_form, methods=["POST"])])
