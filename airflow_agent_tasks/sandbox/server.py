"""Runs the sandbox as a server in a thread of this process."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
from types import TracebackType
from typing import Any

import uvicorn

from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskError
from airflow_agent_tasks.sandbox import (
    DEFAULT_API_KEY,
    DEFAULT_HOST,
    SERVICES,
    build_connection,
    build_connection_variables,
    name_variable,
)
from airflow_agent_tasks.sandbox.app import SandboxApplication
from airflow_agent_tasks.text import shorten

_TIMEOUT_SECONDS = 10
_LOOPBACK_OF_WILDCARD = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound here


class _Server(uvicorn.Server):
    """A uvicorn server that signals when it is ready, cuts connections, and does not wait for streams."""

    def __init__(self, api_key: str) -> None:
        self.application = SandboxApplication(api_key, self.cut)
        self.is_ready_or_dead = threading.Event()
        super().__init__(
            uvicorn.Config(
                self.application,
                loop="asyncio",
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                # Longer than clients keep idle connections: closing one just as the client reuses it would
                # look like a fault for which there is no rule.
                timeout_keep_alive=300,
                timeout_graceful_shutdown=2,
            )
        )

    def cut(self, client: tuple[str, int], send_first: bool) -> None:
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.close() if send_first else connection.transport.abort()

    def run_on(self, listener: socket.socket) -> None:
        try:
            self.run(sockets=[listener])
        finally:
            self.is_ready_or_dead.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_ready_or_dead.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.application.close()
        await super().shutdown(sockets)


class Sandbox:
    """
    Both services on one port, served by a thread of this process::

        with Sandbox() as sandbox:
            requests.post(f"{sandbox.url}/agent/tasks", ...)

    :param host: The address to listen on; default: this machine only.
    :param port: The port; default: any free one.
    :param api_key: The key that both services accept; default ``sk_sandbox``.
    """

    def __init__(self, host: str = DEFAULT_HOST, port: int = 0, api_key: str = DEFAULT_API_KEY) -> None:
        if not api_key:
            raise AgentTaskArgumentError(
                "api_key is empty: the sandbox needs a key to accept, such as sk_sandbox"
            )
        self.api_key = api_key
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._replaced_variables: dict[str, str | None] = {}

    @property
    def url(self) -> str:
        """The base URL of both services."""
        host = self._reachable_host
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def start(self) -> Sandbox:
        """
        Serve in a thread; returns once requests are answered.

        :raises OSError: if it cannot listen on the address; ``strerror`` explains why.
        :raises AgentTaskError: if it is already running, or uvicorn failed to start.
        """
        if self._thread is not None:
            raise AgentTaskError(f"The sandbox on {self.url} is already running")
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._server = _Server(self.api_key)
        self._thread = threading.Thread(
            target=self._server.run_on, args=(listener,), name="agent-tasks-sandbox", daemon=True
        )
        self._thread.start()
        self._server.is_ready_or_dead.wait()
        if not self._server.started:
            self.stop()
            listener.close()
            raise AgentTaskError("The sandbox stopped while starting; see uvicorn's log for the reason")
        return self

    def stop(self) -> None:
        """Cancel open requests and wait for the thread to end; a second call does nothing."""
        self.disconnect()
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._server = self._thread = None

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests so far, oldest first: time, method, path, status, body."""
        found: list[dict[str, Any]] = self._call("GET", "/_sandbox/requests")
        return found

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks so far, oldest first, with their state and history."""
        found: list[dict[str, Any]] = self._call("GET", "/_sandbox/tasks")
        return found

    def faults(self, rules: list[dict[str, Any]]) -> None:
        """
        Make the next matching requests fail.

        :param rules: Dicts with the keys of ``airflow_agent_tasks.sandbox.faults.FaultRule``.
        :raises AgentTaskArgumentError: if a rule is invalid; then no rule is added.
        """
        self._call("POST", "/_sandbox/faults", rules)

    def script(self, *, match: str = "", **script: Any) -> None:
        """
        Script the agents of matching tasks, without a ``#sandbox`` line in their instruction.

        A ``#sandbox`` line takes precedence; if several scripts match, the newest applies.

        :param match: Text or a regular expression to search for in the instruction or message; default: every
            task matches.
        :param script: The keys of ``airflow_agent_tasks.sandbox.script.Script``.
        :raises AgentTaskArgumentError: if a key or a value is invalid.
        """
        self._call("POST", "/_sandbox/scripts", {"match": match, **script})

    def connect(self, conn_id: str, service: str = "lightcone") -> None:
        """
        Point an Airflow connection to this sandbox, for this process and its child processes.

        :param conn_id: The connection's id.
        :param service: ``"lightcone"`` (default) or ``"shinzo"``.
        :raises AgentTaskArgumentError: for an id that Airflow does not accept, or another service.
        """
        if not isinstance(conn_id, str) or not re.fullmatch(r"[\w.-]+", conn_id):
            raise AgentTaskArgumentError(
                f"conn_id must consist of letters, digits, '_', '.' and '-', not {shorten(repr(conn_id))}."
            )
        if service not in SERVICES:
            words = " or ".join(map(repr, SERVICES))
            raise AgentTaskArgumentError(f"service must be {words}, not {shorten(repr(service))}.")
        name = name_variable(conn_id)
        self._replaced_variables.setdefault(name, os.environ.get(name))
        os.environ[name] = build_connection(service, self.url, self.api_key)

    def disconnect(self) -> None:
        """Restore the connections that ``connect`` replaced."""
        for name, value in self._replaced_variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._replaced_variables.clear()

    def forget(self) -> None:
        """Forget all tasks, requests, faults and scripts."""
        self._call("DELETE", "/_sandbox")

    def connection_variables(self) -> dict[str, str]:
        """Return the environment variables that point Airflow's default connections to this sandbox."""
        return build_connection_variables(self.url, self.api_key)

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _reachable_host(self) -> str:
        return _LOOPBACK_OF_WILDCARD.get(self._host, self._host)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        # The standard library's client, because it uses no proxy from the environment.
        try:
            content = None if body is None else json.dumps(body)
        except (TypeError, ValueError) as exc:
            raise AgentTaskArgumentError(f"The body of {method} {path} must be JSON: {exc}") from None
        connection = http.client.HTTPConnection(self._reachable_host, self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, content)
            reply = connection.getresponse()
            answer = reply.read()
        finally:
            connection.close()
        if reply.status >= 400:
            raise AgentTaskArgumentError(
                f"The sandbox rejected {method} {path}: {answer.decode(errors='replace')}"
            )
        return json.loads(answer) if answer else None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as exc:
        number = exc.errno if isinstance(exc, OSError) else None
        reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise OSError(
            number,
            f"The sandbox cannot listen on {host} port {port}: {reason}. "
            "Choose another port, or 0 for any free one.",
        ) from None
