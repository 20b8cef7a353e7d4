"""Redacts the key in responses: a service that echoes it must not put it into logs, errors or XComs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_agent_tasks.services.http import Response

MASK = "***"


def redact_key(response: Response, api_key: str) -> Response:
    """Return the response without the key."""
    if api_key.encode() not in response.body and not any(api_key in it for it in response.headers.values()):
        return response
    headers = {name: value.replace(api_key, MASK) for name, value in response.headers.items()}
    return Response(response.status, headers, response.body.replace(api_key.encode(), MASK.encode()))


def redact_key_in_chunks(chunks: Iterable[bytes], api_key: str) -> Iterator[bytes]:
    """Yield a body without the key, even if two chunks share it; delays only what may be part of the key."""
    key = api_key.encode()
    held = b""
    for chunk in chunks:
        text = (held + chunk).replace(key, MASK.encode())
        held = _find_key_start(key, text)
        if ready := text[: len(text) - len(held)]:
            yield ready
    if held:
        yield held


def _find_key_start(key: bytes, text: bytes) -> bytes:
    """Return the longest end of the text that is a start of the key."""
    return next((key[:length] for length in range(len(key) - 1, 0, -1) if text.endswith(key[:length])), b"")
