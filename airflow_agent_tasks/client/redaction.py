"""A service that echoes the key must not bring it into a log, an error message or an XCom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_agent_tasks.services.http import Response

BLOT = "***"


def hide_key(response: Response, api_key: str) -> Response:
    """Return the reply without the key."""
    if api_key.encode() not in response.body and not any(api_key in it for it in response.headers.values()):
        return response
    headers = {name: value.replace(api_key, BLOT) for name, value in response.headers.items()}
    return Response(response.status, headers, response.body.replace(api_key.encode(), BLOT.encode()))


def hide_key_in_pieces(pieces: Iterable[bytes], api_key: str) -> Iterator[bytes]:
    """Yield a body without the key, also where two pieces share it; what cannot be the key is not held up."""
    key = api_key.encode()
    held = b""
    for piece in pieces:
        text = (held + piece).replace(key, BLOT.encode())
        held = _begun(key, text)
        if ready := text[: len(text) - len(held)]:
            yield ready
    if held:
        yield held


def _begun(key: bytes, text: bytes) -> bytes:
    """Return the longest end of the text with which the key begins."""
    return next((key[:length] for length in range(len(key) - 1, 0, -1) if text.endswith(key[:length])), b"")
