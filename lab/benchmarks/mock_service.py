"""
The mock service that every contender polls: an asyncio protocol that sends prepared bytes, which costs the
least CPU.

Prints its address. It implements what a status check needs of each provider's API. A task's id is its number,
and it runs until the time that ``/control/finish`` sets, on the monotonic clock that all processes of a
machine share. After ``/control/steps?seconds=5`` each task begins a new step every five seconds, not all at
the same time. ``/control/counts`` returns the counts so far.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import uvloop

from lab.command_line import build_parser

#: Its multiples are spread evenly, so the tasks begin their steps at different times.
GOLDEN_RATIO = 0.6180339887
#: The rest of a status response.
TEXT = "The agent works on it. " * 12


def build_lightcone(number: int, is_over: bool) -> dict[str, object]:
    return {
        "task_id": str(number),
        "status": "completed" if is_over else "running",
        "exit_code": 0 if is_over else None,
        "created_at": "2026-01-01T00:00:00Z",
        "log": TEXT,
    }


def build_shinzo(number: int, is_over: bool) -> dict[str, object]:
    return {
        "task_id": str(number),
        "status": "completed" if is_over else "running",
        "created_at": "2026-01-01T00:00:00Z",
        "log": TEXT,
    }


def build_dbt(number: int, is_over: bool) -> dict[str, object]:
    status = 10 if is_over else 3
    return {
        "status": {"code": 200, "is_success": True},
        "data": {"id": number, "status": status, "log": TEXT},
    }


def build_anthropic(number: int, is_over: bool) -> dict[str, object]:
    return {
        "id": str(number),
        "type": "session",
        "status": "terminated" if is_over else "running",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "archived_at": None,
        "title": TEXT,
        "metadata": {},
        "outcome_evaluations": [],
    }


#: (start of the path, function that builds the response)
RESPONSES = [
    ("/agent/tasks/", build_lightcone),
    ("/agent/", build_shinzo),
    ("/sensor/", build_lightcone),
    ("/api/v2/accounts/", build_dbt),
    ("/v1/sessions/", build_anthropic),
]


class MockService:
    """The tasks, and the counts of their polls."""

    def __init__(self) -> None:
        self.polls = self.connections = 0
        self.first_polled: dict[int, float] = {}
        #: The responses of the tasks that are running, by request target.
        self._running: dict[bytes, bytes] = {}
        self.step_seconds = 0.0
        self.finish = {"at": float("inf"), "seconds": 1.0, "tasks": 1.0}

    def respond(self, target: bytes) -> bytes:
        """Return the response to a GET request, with its head."""
        is_steady = not self.step_seconds and time.monotonic() < self.finish["at"]
        if is_steady and (known := self._running.get(target)):
            self.polls += 1
            return known
        status, content = self._answer(target.decode())
        body = json.dumps(content).encode()
        head = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        response = head % (status, len(body)) + body
        if is_steady and not target.startswith(b"/control/"):
            self._running[target] = response
        return response

    def _answer(self, target: str) -> tuple[int, object]:
        parts = urlsplit(target)
        if parts.path == "/control/counts":
            return 200, self._count()
        if parts.path == "/control/finish":
            self.finish = {name: float(value) for name, value in parse_qsl(parts.query)}
            return 200, {}
        if parts.path == "/control/steps":
            self.step_seconds = float(dict(parse_qsl(parts.query))["seconds"])
            return 200, {}
        self.polls += 1
        number = int(parts.path.rstrip("/").rpartition("/")[2])
        self.first_polled.setdefault(number, time.monotonic())
        is_over = time.monotonic() >= self._end_of(number)
        build = next(build for beginning, build in RESPONSES if parts.path.startswith(beginning))
        # The sensor waits until the response is no longer a 404.
        is_missing = parts.path.startswith("/sensor/") and not is_over
        content = build(number, is_over)
        if self.step_seconds and not is_over:
            content["progress"] = self._build_progress(number)
        return 404 if is_missing else 200, content

    def _build_progress(self, number: int) -> dict[str, object]:
        steps = int(time.monotonic() / self.step_seconds + number * GOLDEN_RATIO)
        return {
            "current_step": f"Reading chapter {steps}",
            "steps_completed": steps,
            "total_steps": 2 * steps,
        }

    def _end_of(self, number: int) -> float:
        return self.finish["at"] + self.finish["seconds"] * number / self.finish["tasks"]

    def _count(self) -> dict[str, float]:
        moments = self.first_polled.values()
        return {
            "polls": self.polls,
            "connections": self.connections,
            "polled": len(moments),
            "last_first_polled_at": max(moments, default=0.0),
        }


class Connection(asyncio.Protocol):
    """One connection: requests without a body, one after the other."""

    def __init__(self, service: MockService) -> None:
        self._service = service
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._service.connections += 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._transport.write(self._service.respond(head.split(b" ", 2)[1]))


async def serve(certificate: str | None) -> None:
    """Serve until the process ends; with TLS if there is a certificate."""
    service, tls = MockService(), None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=4096, ssl=tls)
    print(f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = build_parser("lab.benchmarks.mock_service", __doc__)
    parser.add_argument(
        "certificate", nargs="?", help="PEM file with the certificate and its key; default: plain HTTP"
    )
    uvloop.run(serve(parser.parse_args().certificate))
