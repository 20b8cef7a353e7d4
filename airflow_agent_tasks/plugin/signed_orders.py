"""
Orders of workers to the API server.

An order is signed with ``[api] secret_key``, and its signature is valid for a minute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.secret_key import read_secret_key
from airflow_agent_tasks.airflow_compat.worker_request_signature import REFUSAL, is_signed

#: Bytes of an order: the longest form has less than half of it.
MAX_ORDER = 128 * 1024


async def read_order(request: Request) -> Mapping[str, Any] | None:
    """Return the order that a request brings, or None if no worker of this Airflow has signed it."""
    order = _parse(await _receive(request))
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    # Without a key this server cannot tell a worker from anyone else.
    key = read_secret_key()
    return order if order is not None and key and is_signed(key, order, token) else None


def refuse() -> JSONResponse:
    """Return the response to an order without a valid signature."""
    return JSONResponse({"detail": REFUSAL}, 403)


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
