"""Reads the bodies of requests to this package's plugin in the API server."""

from __future__ import annotations

import anyio
from starlette.requests import ClientDisconnect, Request


async def read_body(request: Request, max_size: int, max_seconds: float) -> bytes | None:
    """
    Return the body of a request; None if it is too large, or does not arrive in time.

    :param max_size: Maximum size in bytes; no more than the chunk that exceeds it is read.
    :param max_seconds: Seconds for the whole body to arrive.
    """
    body = bytearray()
    try:
        with anyio.fail_after(max_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_size:
                    return None
    except (TimeoutError, ClientDisconnect):
        return None
    return bytes(body)
