"""What a task costs: CPU seconds by component, requests, and the slots of the workers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.cluster.celery_cluster import CeleryCluster, find_kind
from lab.cluster.cluster_programs import ClusterTimeoutError
from lab.cluster.connections import count_connections
from lab.cluster.cpu_time import read_cpu_seconds
from lab.cluster.nginx import count_requests
from lab.cluster.processes import wait_until
from lab.cluster_run.airflow_rows import AirflowRows
from lab.cluster_run.service import Service
from lab.cluster_run.slots import SlotTimes, count_open_executions, read_slot_times
from lab.command_line import log_progress

#: The kinds of components that are parts of Airflow.
AIRFLOW_KINDS = ("worker", "api-server", "scheduler", "triggerer", "dag-processor")
#: What Airflow needs beside them.
OTHER_KINDS = ("postgresql", "redis", "nginx")
#: Seconds for a round to end, and again for the workers to be idle.
ROUND_TIMEOUT = 900.0


@dataclass
class Cost:
    """
    The cost of the tasks of a DAG over all rounds.

    :param tasks: The number of tasks.
    :param cpu: CPU seconds by the kind of component.
    :param api_requests: Requests to the API servers, by method and path.
    :param service_requests: Requests to the service, by method, path and status.
    :param slots: Seconds that the executions occupied a slot.
    :param rows: Rows that are left in Airflow's database, by table.
    :param connections: The most connections to it at the same time, by the kind of component.
    """

    tasks: int = 0
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    api_requests: Counter[str] = field(default_factory=Counter)
    service_requests: Counter[str] = field(default_factory=Counter)
    slots: SlotTimes = field(default_factory=lambda: SlotTimes([], []))
    rows: Counter[str] = field(default_factory=Counter)
    connections: Counter[str] = field(default_factory=Counter)


class Meter:
    """
    Measures rounds of an Airflow.

    :param cluster: The Airflow.
    :param service: The service.
    :param rows: The Airflow's database.
    """

    def __init__(self, cluster: CeleryCluster, service: Service, rows: AirflowRows) -> None:
        self._cluster = cluster
        self._service = service
        self._rows = rows
        self._postmaster = rows.find_postmaster()

    def measure(self, dag_id: str, count: int, cost: Cost) -> str:
        """
        Run a DAG once, add what it cost, and return the id of the run.

        :param count: The number of its tasks.
        :raises ClusterTimeoutError: It did not end in time.
        """
        before, rows_before = (self._read_cpu(), self._count_requests()), self._rows.count_rows()
        run_id = self._cluster.api.trigger(dag_id)
        self._wait(lambda: self._has_ended(dag_id, run_id, count, cost), f"{dag_id} has not ended")
        self._wait(lambda: count_open_executions(self._read_worker_logs()) == 0, "the workers are not idle")
        after = self._read_cpu(), self._count_requests()
        cost.tasks += count
        cost.rows.update(self._rows.count_rows() - rows_before)
        for kind, seconds in after[0].items():
            cost.cpu[kind] += seconds - before[0][kind]
        for counter, start, end in zip(
            (cost.api_requests, cost.service_requests), before[1], after[1], strict=True
        ):
            counter.update(end - start)
        slots = read_slot_times(self._read_worker_logs())[run_id]
        cost.slots.first.extend(slots.first)
        cost.slots.later.extend(slots.later)
        log_progress(f"{dag_id}: {count} tasks have ended.")
        return run_id

    def _has_ended(self, dag_id: str, run_id: str, count: int, cost: Cost) -> bool:
        self._cluster.check_programs()
        cost.connections |= self._count_connections()
        return sum(task.has_ended for task in self._rows.list_tasks(dag_id, run_id)) == count

    def _wait(self, condition: Callable[[], bool], lack: str) -> None:
        if not wait_until(condition, timeout=ROUND_TIMEOUT, interval=0.5):
            raise ClusterTimeoutError(f"{lack} after {ROUND_TIMEOUT:.0f} s")

    def _read_cpu(self) -> dict[str, float]:
        kinds = {**self._list_kinds(), self._postmaster: "postgresql"}
        cpu: dict[str, float] = defaultdict(float)
        for leader, seconds in read_cpu_seconds(kinds).items():
            cpu[kinds[leader]] += seconds
        return cpu

    def _count_connections(self) -> Counter[str]:
        """Return the number of connections to the database, by the kind of component."""
        kinds = self._list_kinds()
        counts: Counter[str] = Counter()
        for leader, count in count_connections(self._rows.port, kinds).items():
            counts[kinds[leader]] += count
        return counts

    def _list_kinds(self) -> dict[int, str]:
        """Return the kind of each component, by the id of its first process."""
        return {program.leader.pid: find_kind(name) for name, program in self._cluster.programs.items()}

    def _count_requests(self) -> tuple[Counter[str], Counter[str]]:
        lines = self._cluster.requests_path.read_text().splitlines()
        return count_requests(lines), self._service.count_requests()

    def _read_worker_logs(self) -> list[str]:
        logs = (self._cluster.log_folder / f"{name}.log" for name in ("worker", "worker-2"))
        return [line for log in logs for line in log.read_text(errors="replace").splitlines()]
