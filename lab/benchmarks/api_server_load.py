"""What an API server gets from outside: calls of services, and the requests of someone's browser."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

import psutil  # type: ignore[import-untyped]

from lab.benchmarks.send_calls import Call
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.processes import Program, find_process_tree

#: Seconds between two requests for the page.
PAGE_INTERVAL = 0.1
#: Seconds for calls that take longer than planned.
PATIENCE = 300.0


class Caller:
    """
    A process that calls, one call after the other.

    :param cluster: The Airflow.
    """

    def __init__(self, cluster: AirflowCluster) -> None:
        self._cluster = cluster
        self._urls_path = cluster.home / "urls"
        self._output_path = cluster.home / "calls"
        self._process: Program | None = None
        self._seconds = 0.0

    def start(self, urls: Sequence[str], seconds: float) -> None:
        """Begin to call these URLs, evenly spread over so many seconds."""
        self._urls_path.write_text("\n".join(urls))
        self._output_path.write_text("")
        self._seconds = seconds
        command = [sys.executable, "-m", "lab.benchmarks.send_calls", str(self._urls_path), str(seconds)]
        self._process = self._cluster.start_program("caller", command, output_path=self._output_path)

    @property
    def has_ended(self) -> bool:
        """True if all calls have been answered."""
        return self._process is None or self._process.exit_status is not None

    def wait(self) -> list[Call]:
        """Wait until all calls have been answered, and return them in the order of their URLs."""
        assert self._process  # noqa: S101
        if self._process.wait(timeout=self._seconds + PATIENCE) != 0:
            raise SystemExit(f"the calls could not be sent. {self._process.describe_log_end()}")
        self._cluster.stop_program("caller")
        return [Call(*json.loads(line)) for line in self._output_path.read_text().splitlines()]


def time_page(cluster: AirflowCluster, is_over: Callable[[], bool]) -> list[float]:
    """Request the list of DAGs again and again, and return how many milliseconds each response took."""
    times = []
    while not is_over():
        began = time.monotonic()
        cluster.api.request("GET", "/dags")
        times.append(1000 * (time.monotonic() - began))
        time.sleep(PAGE_INTERVAL)
    return times


def read_cpu(program: Program) -> float:
    """Return the seconds of CPU that a program has used so far, with all its processes."""
    times = [psutil.Process(pid).cpu_times() for pid in find_process_tree([program.leader])]
    return float(sum(one.user + one.system for one in times))
