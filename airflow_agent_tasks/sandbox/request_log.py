"""The log of the sandbox's requests and response statuses."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from airflow_agent_tasks.sandbox.strict_json import parse_json

KEPT_REQUESTS = 100_000
LONGEST_BODY = 100_000
SHOWN_CHARACTERS = 1_000


@dataclass
class LoggedRequest:
    """
    One request.

    :param time: When it arrived, in seconds since the epoch.
    :param method: The HTTP method.
    :param path: The path as sent, still quoted, without the query.
    :param status: The HTTP status of the response; None while it waits, and if it was dropped.
    :param body: The JSON body; None for any other body; the beginning of it as text if it is too long.
    """

    time: float
    method: str
    path: str
    status: int | None
    body: Any


class RequestLog:
    """
    The last 100,000 requests, without their headers.

    :param secret: The key, which is redacted wherever it appears.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._requests: deque[LoggedRequest] = deque(maxlen=KEPT_REQUESTS)

    def add(self, *, time: float, method: str, path: str, body: bytes) -> LoggedRequest:
        """Log a request on arrival, and return its entry, whose ``status`` is set with the response."""
        logged = LoggedRequest(time, method, self._redact(path), None, self._readable(body))
        self._requests.append(logged)
        return logged

    def to_json(self) -> list[dict[str, Any]]:
        """Return the requests, oldest first."""
        return [asdict(logged) for logged in self._requests]

    def forget(self) -> None:
        """Empty the log."""
        self._requests.clear()

    def _readable(self, body: bytes) -> Any:
        text = self._redact(body.decode("utf-8", "replace"))
        if len(body) > LONGEST_BODY:
            return f"{text[:SHOWN_CHARACTERS]}… ({len(body)} bytes)"
        try:
            return parse_json(text)
        except ValueError:
            return None

    def _redact(self, text: str) -> str:
        return text.replace(self._secret, "***")
