"""The middleware in front of the services: the size limit, the request log and the fault rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_agent_tasks.sandbox.faults import BODILESS_STATUSES, FaultRule, FaultRules
from airflow_agent_tasks.sandbox.request_log import LoggedRequest, RequestLog

LARGEST_BODY = 10_000_000
FILLER_PIECE = 64 * 1024
CONTROL_PATH = "/_sandbox"

#: Cuts the connection to the client at this address; True sends buffered data first.
CutConnection = Callable[[tuple[str, int], bool], None]


class Gate:
    """
    ASGI middleware around both services; it does not affect or log ``/_sandbox``.

    :param app: The services.
    :param log: The request log.
    :param faults: The rules to apply.
    :param now: Returns the current time in seconds since the epoch.
    :param cut: Cuts a connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        log: RequestLog,
        faults: FaultRules,
        now: Callable[[], float],
        cut: CutConnection,
    ) -> None:
        self._app = app
        self._log = log
        self._faults = faults
        self._now = now
        self._cut = cut
        self._waiting: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"The sandbox supports HTTP, not {scope['type']}")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - ASGI runs each request in a task; this is for mypy
        self._waiting.add(task)
        try:
            await self._pass(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_closing:
                raise
            self._cut(scope["client"], False)
            await wait_for_disconnect(receive)
        finally:
            self._waiting.discard(task)

    def close(self) -> None:
        """Cancel the requests that still wait or stream, so that the server can stop at once."""
        self._is_closing = True
        for task in self._waiting:
            task.cancel()

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        if body is None:
            return
        path = scope["raw_path"].decode("latin-1")
        if path == CONTROL_PATH or path.startswith(f"{CONTROL_PATH}/"):
            await self._work(scope, body, receive, send)
            return
        logged = self._log.add(time=self._now(), method=scope["method"], path=path, body=body)
        rule = self._faults.take(scope["method"], path)
        if rule is not None and rule.delay_seconds is not None:
            await asyncio.sleep(rule.delay_seconds)
        if rule is not None and rule.drop is not None:
            await self._drop(rule.drop, scope, body, receive, send)
        elif rule is not None and rule.replaces_response:
            await _send_scripted(rule, _recording_status(send, logged))
        else:
            await self._work(scope, body, receive, _recording_status(send, logged))

    async def _work(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        if len(body) > LARGEST_BODY:
            message = f"The body is larger than {LARGEST_BODY} bytes."
            await _send_response(
                send, 413, {"content-type": "application/json"}, f'{{"error": "{message}"}}'.encode()
            )
        else:
            await self._app(scope, _replaying(body, receive), send)

    async def _drop(self, when: str, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        head: list[Message] = []
        is_cut = False

        def cut(*, send_first: bool) -> None:
            nonlocal is_cut
            is_cut = True
            self._cut(scope["client"], send_first)

        async def cutting(message: Message) -> None:
            if is_cut:
                return
            if message["type"] == "http.response.start":
                head.append(message)
                if when == "after":
                    cut(send_first=False)
                return
            piece = message.get("body", b"")
            await send(head[0])
            await send({**message, "body": piece[: len(piece) // 2], "more_body": True})
            cut(send_first=True)

        if when == "before":
            cut(send_first=False)
        else:
            await self._work(scope, body, receive, cutting)
        # If this returned earlier, the server would send an error response on a connection that must be cut.
        await wait_for_disconnect(receive)


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body, cut one chunk after the limit, or None if the client disconnected."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        # The rest of a body that is too large is read and discarded: a client that is still sending would see
        # a broken connection instead of the response.
        if size <= LARGEST_BODY:
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
        if not message.get("more_body", False):
            return b"".join(pieces)


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _replaying(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _recording_status(send: Send, logged: LoggedRequest) -> Send:
    async def record(message: Message) -> None:
        if message["type"] == "http.response.start":
            logged.status = message["status"]
        await send(message)

    return record


async def _send_scripted(rule: FaultRule, send: Send) -> None:
    status = rule.status or 200
    if rule.body_bytes is not None:
        headers = {"content-type": "text/html", **_lower(rule.headers)}
        await _send_filler(send, status, headers, rule.body_bytes)
    elif rule.body is not None:
        await _send_response(
            send, status, {"content-type": "text/html", **_lower(rule.headers)}, rule.body.encode()
        )
    else:
        headers = {"content-type": "application/json", **_lower(rule.headers)}
        await _send_response(send, status, headers, f'{{"error": "Scripted fault: {status}."}}'.encode())


async def _send_response(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    if status in BODILESS_STATUSES:
        body = b""
    await _send_head(send, status, headers, len(body))
    await send({"type": "http.response.body", "body": body})


async def _send_filler(send: Send, status: int, headers: dict[str, str], size: int) -> None:
    size = 0 if status in BODILESS_STATUSES else size
    await _send_head(send, status, headers, size)
    for sent in range(0, size, FILLER_PIECE):
        piece = b" " * min(FILLER_PIECE, size - sent)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_head(send: Send, status: int, headers: dict[str, str], size: int) -> None:
    if status not in BODILESS_STATUSES:
        headers = {**headers, "content-length": str(size)}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


def _lower(headers: dict[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}
