"""Which requests the sandbox got and what it answered."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from airflow_agent_tasks.sandbox.checking import parse_json

KEPT_REQUESTS = 100_000
LONGEST_BODY = 100_000
SHOWN_CHARACTERS = 1_000


@dataclass
class LoggedRequest:
    """
    One request.

    :param time: When it came, in seconds since the epoch.
    :param method: The HTTP method.
    :param path: The path as it was sent, still quoted, without the query.
    :param status: The HTTP status of the reply; None while it waits and for ever when it was dropped.
    :param body: The JSON body, None for another body, the beginning as text when it is too long.
    """

    time: float
    method: str
    path: str
    status: int | None
    body: Any


class RequestLog:
    """
    The last 100,000 requests, without their headers.

    :param secret: The key; it is blotted out wherever a caller put it.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._requests: deque[LoggedRequest] = deque(maxlen=KEPT_REQUESTS)

    def add(self, *, time: float, method: str, path: str, body: bytes) -> LoggedRequest:
        """Log a request on its arrival; set the ``status`` of what is returned when it is answered."""
        logged = LoggedRequest(time, method, self._blot(path), None, self._readable(body))
        self._requests.append(logged)
        return logged

    def to_json(self) -> list[dict[str, Any]]:
        """Return the requests, the oldest first."""
        return [asdict(logged) for logged in self._requests]

    def forget(self) -> None:
        """Empty the log."""
        self._requests.clear()

    def _readable(self, body: bytes) -> Any:
        text = self._blot(body.decode("utf-8", "replace"))
        if len(body) > LONGEST_BODY:
            return f"{text[:SHOWN_CHARACTERS]}… ({len(body)} bytes)"
        try:
            return parse_json(text)
        except ValueError:
            return None

    def _blot(self, text: str) -> str:
        return text.replace(self._secret, "***")
