"""The metrics of one shared poller: added up as it polls, and sent every few seconds."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.lifecycle.measurements import measure_stop
from airflow_agent_tasks.telemetry import metrics
from airflow_agent_tasks.telemetry.reporter import Reporter

#: Seconds between two sends: a triggerer may poll a thousand times a second.
SEND_INTERVAL = 5.0


class PollMetrics:
    """
    Counts what a poller does on one connection, and sends the counts.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        #: Known once the connection has been read.
        self.service = "unknown"
        #: How many agent tasks share the poller now.
        self.waiting = 0
        #: Since the last send.
        self.polls = self.poll_errors = self.opened_circuits = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send the counts every few seconds from now on."""
        self._timer = asyncio.get_running_loop().call_later(SEND_INTERVAL, self._send_and_go_on)

    def close(self) -> None:
        """Send the rest; nothing waits any more. A trigger that is done must not wait for it."""
        if self._timer:
            self._timer.cancel()
        self._send()

    def count_stop(self, task: AgentTask, before: AgentTask | None) -> None:
        """Report that an agent task was stopped, because someone ended its Airflow task."""
        # In a thread, as in _send.
        report = Reporter(self._conn_id, self.service).report
        asyncio.get_running_loop().run_in_executor(None, report, [*measure_stop(task, before)])

    def _send_and_go_on(self) -> None:
        self._send()
        self.start()

    def _send(self) -> None:
        counts = {
            "polls": self.polls,
            "poll_errors": self.poll_errors,
            "circuit_opened": self.opened_circuits,
        }
        self.polls = self.poll_errors = self.opened_circuits = 0
        # In a thread: the first send of a process resolves the receiver's name, which may block.
        asyncio.get_running_loop().run_in_executor(None, _send, counts, self.waiting, self._tags)

    @property
    def _tags(self) -> dict[str, str]:
        return {"service": self.service, "conn_id": self._conn_id}


def _send(counts: Mapping[str, int], waiting: int, tags: Mapping[str, str]) -> None:
    # Also zeros: Prometheus does not see the first increase of a series that begins with one.
    for name, value in counts.items():
        metrics.count(name, value, tags)
    # Both are in the name too: without tags, triggerers and connections would overwrite each other.
    owner = {"hostname": platform.node(), "conn_id": tags["conn_id"]}
    metrics.gauge("waiting", waiting, tags, owner)
