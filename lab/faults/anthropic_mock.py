"""
A mock of Anthropic's service, to compare the agent task of Airflow's Anthropic provider with ours.

    with AnthropicMock(session_seconds=60) as mock:
        (dags_folder / f"{mock.dag_id}.py").write_text(mock.dag_source)
        with AirflowCluster(home, dags_folder=dags_folder, environment=mock.environment) as cluster:
            ...
    print(mock.sessions_started, mock.sessions_stopped, mock.is_running)

The provider itself is real: operator, trigger, hook and the vendor's SDK, which ``make peers`` installs. The
mock responds to the five requests that the hook sends.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.peer_providers import PEERS_FOLDER

DAG_SOURCE = """
from airflow.providers.anthropic.operators.agent import AnthropicAgentSessionOperator
from airflow.sdk import DAG

with DAG({dag_id!r}, schedule=None):
    AnthropicAgentSessionOperator(
        task_id="agent",
        conn_id={dag_id!r},
        agent_id="agent",
        environment_id="environment",
        message="Work for a while.",
        deferrable=True,
        poll_interval=1,
    )
"""
Response = tuple[HTTPStatus, dict[str, Any]]


@dataclass
class _Session:
    """A session of the service: idle until the first message, then running for a while."""

    id: str
    ends_at: float | None = None
    was_stopped: bool = False
    is_archived: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.is_archived:
            return "terminated"
        return "running" if self.ends_at is not None and time.monotonic() < self.ends_at else "idle"

    def describe(self) -> dict[str, Any]:
        usage = {"input_tokens": 0, "output_tokens": 0}
        return {"id": self.id, "status": self.status, "outcome_evaluations": [], "usage": usage}

    def list_events(self) -> list[dict[str, Any]]:
        """Return the events, newest first; the service itself adds the event for the end of the work."""
        end = {"id": f"{self.id}_end", "type": "session.status_idle", "stop_reason": {"type": "end_turn"}}
        has_worked = self.ends_at is not None and self.status == "idle"
        return [end, *self.events[::-1]] if has_worked else self.events[::-1]

    def take_event(self, event: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Work for ``seconds`` on a message, or stop on an interrupt; return the event."""
        if event["type"] == "user.message":
            self.ends_at = time.monotonic() + seconds
        elif event["type"] == "user.interrupt" and self.status == "running":
            self.ends_at = time.monotonic()
            self.was_stopped = True
        self.events.append({"id": f"{self.id}_event_{len(self.events)}", **event})
        return self.events[-1]


class AnthropicMock:
    """
    The mock service on a separate port, with the DAG and the connection that use it.

    :param session_seconds: How long a session works after a message unless it is interrupted.
    :param dag_id: The DAG's id, and that of its connection. The DAG has one task, ``agent``.
    """

    def __init__(self, *, session_seconds: float, dag_id: str = "anthropic") -> None:
        self.session_seconds = session_seconds
        self.dag_id = dag_id
        self.dag_source = DAG_SOURCE.format(dag_id=dag_id)
        #: Every request except the GETs: ``POST /v1/sessions: 200``.
        self.changes: list[str] = []
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> AnthropicMock:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with the provider's folder and its connection."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        connection = json.dumps({"conn_type": "anthropic", "host": url, "password": "no-real-key"})
        return {f"AIRFLOW_CONN_{self.dag_id.upper()}": connection, "PYTHONPATH": str(PEERS_FOLDER)}

    @property
    def sessions_started(self) -> int:
        """The number of sessions that were created."""
        with self._lock:
            return len(self._sessions)

    @property
    def sessions_stopped(self) -> int:
        """The number of sessions that were stopped before their work was done."""
        with self._lock:
            return sum(session.was_stopped for session in self._sessions.values())

    @property
    def is_running(self) -> bool:
        """True while a session is working."""
        with self._lock:
            return any(session.status == "running" for session in self._sessions.values())

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Response:
        """Handle a request; return the response."""
        with self._lock:
            status, content = self._do(method, path, body)
            if method != "GET":
                self.changes.append(f"{method} {path}: {status.value}")
            return status, content

    def _do(self, method: str, path: str, body: dict[str, Any]) -> Response:
        if (method, path) == ("POST", "/v1/sessions"):
            session = _Session(f"session_{len(self._sessions)}")
            self._sessions[session.id] = session
            return HTTPStatus.OK, session.describe()
        session_id, _, action = path.removeprefix("/v1/sessions/").partition("/")
        session = self._sessions[session_id]
        match method, action:
            case "GET", "":
                return HTTPStatus.OK, session.describe()
            case "GET", "events":
                return HTTPStatus.OK, {"data": session.list_events()}
            case "POST", "events":
                events = [session.take_event(event, self.session_seconds) for event in body["events"]]
                return HTTPStatus.OK, {"data": events}
            case "POST", "archive" if session.status == "running":
                # The real service rejects this too; the hook then interrupts the session first.
                error = {"type": "invalid_request_error", "message": "a running session cannot be archived"}
                return HTTPStatus.BAD_REQUEST, {"type": "error", "error": error}
            case "POST", "archive":
                session.is_archived = True
                return HTTPStatus.OK, session.describe()
        raise ValueError(f"the provider sent {method} {path}, which the mock does not support; add it here")


class _Handler(BaseHTTPRequestHandler):
    """One connection to an ``AnthropicMock``."""

    protocol_version = "HTTP/1.1"

    def __init__(self, mock: AnthropicMock, *arguments: Any) -> None:
        self.mock = mock
        super().__init__(*arguments)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        status, content = self.mock.answer(self.command, self.path.partition("?")[0], request)
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *arguments: Any) -> None:
        """Print nothing: thousands of polls would hide the caller's output."""
