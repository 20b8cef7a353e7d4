"""The run in which components are killed: it answers the agents' questions until all tasks have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from lab.cluster.airflow_api import AirflowApi, AirflowApiError
from lab.cluster.celery_cluster import CeleryCluster, find_kind
from lab.cluster.cluster_programs import ClusterTimeoutError
from lab.cluster.processes import wait_until
from lab.cluster_run.airflow_rows import AirflowRows, AirflowTask
from lab.cluster_run.dags import KILLED_DAGS
from lab.cluster_run.disturbances import DISTURBANCES, disturb
from lab.cluster_run.plan import PlannedTask, find_number
from lab.cluster_run.service import Service
from lab.cluster_run.slots import count_open_executions
from lab.command_line import log_progress

#: Seconds between two looks at the tasks.
LOOK_INTERVAL = 1.0
#: Number of answers that are sent concurrently: Airflow delays each until its task's worker has exited.
SENDERS = 20
#: Seconds within which a task must end, on average; and seconds in addition, to notice what was killed.
TASK_TIMEOUT, KILL_TIMEOUT = 10.0, 900.0


class KilledRun:
    """
    One run of each of the DAGs at the same time.

    :param cluster: The Airflow.
    :param service: The service.
    :param rows: The Airflow's database.
    :param parts: The planned tasks of each DAG.
    """

    def __init__(
        self,
        cluster: CeleryCluster,
        service: Service,
        rows: AirflowRows,
        parts: Sequence[Sequence[PlannedTask]],
    ) -> None:
        self._cluster = cluster
        self._service = service
        self._rows = rows
        self._replies = {task.number: task.reply for part in parts for task in part}
        #: The number of the first planned task of each DAG.
        self._first = {
            dag_id: part[0].number for dag_id, part in zip(KILLED_DAGS, parts, strict=True) if part
        }
        self._run_ids: dict[str, str] = {}
        self._tasks: list[AirflowTask] = []
        self._being_answered: set[int] = set()
        self._reported: Counter[str | None] = Counter()
        #: How many kills and outages are over.
        self.disturbances = 0

    @property
    def ended(self) -> float:
        """The share of the tasks that have ended."""
        return sum(task.has_ended for task in self._tasks) / len(self._replies)

    @property
    def deferred(self) -> int:
        """The number of tasks that a triggerer waits for."""
        return self._count("deferred")

    def is_busy(self, name: str) -> bool:
        """Return True if a component has something to lose."""
        if find_kind(name) == "worker":
            log = self._cluster.log_folder / f"{name}.log"
            return count_open_executions(log.read_text(errors="replace").splitlines()) > 0
        if find_kind(name) == "triggerer":
            return self._rows.count_triggerers() > 1  # so this one has triggers too
        return self._count("running") > 0 and self.deferred > 0

    def run(self) -> list[AirflowTask]:
        """
        Trigger the DAGs, answer and disturb until all tasks have ended, and return them.

        :raises ClusterTimeoutError: Not all ended in time.
        """
        self._run_ids = {dag_id: self._cluster.api.trigger(dag_id) for dag_id in self._first}
        disturbances = disturb(self._cluster, self._service, self)
        timeout = KILL_TIMEOUT + TASK_TIMEOUT * len(self._replies)
        with ThreadPoolExecutor(SENDERS) as self._senders:
            if not wait_until(lambda: self._look(disturbances), timeout=timeout, interval=LOOK_INTERVAL):
                left = sorted({task.number for task in self._tasks if not task.has_ended})
                raise ClusterTimeoutError(f"not ended after {timeout:.0f} s: tasks {left}")
        return self._list_tasks(with_xcoms=True)

    def _list_tasks(self, *, with_xcoms: bool = False) -> list[AirflowTask]:
        return [
            task
            for dag_id, run_id in self._run_ids.items()
            for task in self._rows.list_tasks(
                dag_id, run_id, first=self._first[dag_id], with_xcoms=with_xcoms
            )
        ]

    def _look(self, disturbances: Generator[int, None, None]) -> bool:
        self._cluster.check_programs()
        self._tasks = self._list_tasks()
        states = Counter(task.state for task in self._tasks)
        if int(self.ended * 20) != int(self._reported["ended"]):
            self._reported["ended"] = int(self.ended * 20)
            log_progress(", ".join(f"{count} {state}" for state, count in states.items()))
        self.disturbances = next(disturbances, len(DISTURBANCES))
        # The API servers may just be down, or have the one of them that was killed in their connections.
        with suppress(AirflowApiError):
            self._answer_all_open()
        return self.ended == 1.0

    def _answer_all_open(self) -> None:
        for dag_id, first in self._first.items():
            for form in self._cluster.api.list_questions(dag_id):
                ti = form["task_instance"]
                number = first + find_number(ti["task_id"], ti["map_index"])
                if number not in self._being_answered:
                    self._being_answered.add(number)
                    self._senders.submit(self._answer, form, number)

    def _answer(self, form: dict[str, Any], number: int) -> None:
        try:
            # An own session, because sessions are not thread-safe.
            AirflowApi(self._cluster.url).answer(form, self._replies[number])
        except AirflowApiError as error:
            log_progress(f"The answer of task {number} was not accepted, and is sent again: {error}")
        finally:
            self._being_answered.discard(number)

    def _count(self, state: str) -> int:
        return sum(task.state == state for task in self._tasks)
