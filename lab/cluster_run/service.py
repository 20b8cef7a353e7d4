"""The sandbox of the run, in a process of its own."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any

import requests

from airflow_agent_tasks.sandbox import build_connection_variables, name_variable
from lab.cluster.cluster_programs import ClusterPrograms, ClusterTimeoutError
from lab.cluster.processes import find_free_ports, is_listening, wait_until
from lab.cluster_run.dags import LIMITED, UNLIMITED
from lab.cluster_run.verdict import Agent, read_agent

#: Seconds for it to accept connections.
STARTUP_TIMEOUT = 60.0
_ID = re.compile(r"tsk_[0-9a-f]+")


class Service:
    """
    Both services on a free port.

    :param limit: ``max_concurrent_tasks`` of the connections that have it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        (self._port,) = find_free_ports(1)
        self._url = f"http://127.0.0.1:{self._port}"
        self._session = requests.Session()
        # The user's proxy settings must not apply to an address on this machine.
        self._session.trust_env = False

    @property
    def connections(self) -> dict[str, str]:
        """The environment variables with Airflow's connections to it."""
        connections = build_connection_variables(self._url)
        for service, conn_id in LIMITED.items():
            connection = json.loads(connections[name_variable(UNLIMITED[service])])
            connection["extra"]["max_concurrent_tasks"] = self._limit
            connections[name_variable(conn_id)] = json.dumps(connection)
        return connections

    def start(self, programs: ClusterPrograms) -> None:
        """
        Start it as one of a cluster's programs.

        :raises ClusterTimeoutError: It did not start in time.
        """
        command = [sys.executable, "-m", "airflow_agent_tasks.sandbox", "--port", str(self._port)]
        program = programs.start_program("sandbox", command)
        if not wait_until(lambda: is_listening(self._port), timeout=STARTUP_TIMEOUT):
            raise ClusterTimeoutError(f"The sandbox did not start. {program.describe_log_end()}")

    def list_agents(self) -> list[Agent]:
        """Return all agents, the oldest first."""
        return [read_agent(task) for task in self._call("GET", "tasks")]

    def count_requests(self) -> Counter[str]:
        """Return the number of requests by method, path without ids, and status."""
        return Counter(
            f"{entry['method']} {_ID.sub('{id}', entry['path'])} {entry['status']}"
            for entry in self._call("GET", "requests")
        )

    def fail(self, rule: dict[str, Any]) -> None:
        """Let requests fail; see ``airflow_agent_tasks.sandbox.faults.FaultRule``."""
        self._call("POST", "faults", [rule])

    def forget(self) -> None:
        """Forget all agents and requests."""
        self._call("DELETE", "")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self._url}/_sandbox/{path}".rstrip("/")
        response = self._session.request(method, url, json=body, timeout=60)
        response.raise_for_status()
        return response.json() if response.content else None
