"""The Airflow side of one run of a case: its one task, what can be done to it, and what came of it."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from airflow_api import TaskInstance
from airflow_cluster import RUN_END_STATES, AirflowCluster
from case import Case, CaseError, Steps
from processes import find_titled, wait_until

#: Seconds for anything that a case waits for, unless it says otherwise. Two cores serve all cases at once.
PATIENCE = 120.0
#: What the scheduler writes, with the task instance's id, when its executor has told it of a worker's end.
LEFT_WORKER = "TaskInstance Finished: "
END_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass
class Outcome:
    """
    What came of one run of a case.

    :param started: Remote tasks that were started.
    :param left_running: Those that still run, and were not stopped by Airflow's side.
    :param lost: Results that should have been delivered and were not, or not rightly.
    :param measures: Seconds that the case measured, by what they are.
    :param problems: What was not as expected.
    """

    started: int = 0
    left_running: int = 0
    lost: int = 0
    measures: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class AirflowRun(AbstractContextManager["AirflowRun"], ABC):
    """
    One run of a case.

    :param case: The case.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.outcome = Outcome()

    def join(self, cluster: AirflowCluster, tasks: Mapping[str, TaskInstance]) -> None:
        """Take the Airflow that runs the case's DAG, and its tasks by DAG, read anew before each step."""
        self.cluster = cluster
        self._tasks = tasks

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The variables with which Airflow finds the service."""

    @abstractmethod
    def write_dag(self, dags_folder: Path) -> None:
        """Write what defines the case's DAG."""

    @property
    @abstractmethod
    def is_waited_for(self) -> bool:
        """True when Airflow waits for the remote task, where the case says."""

    @abstractmethod
    def judge(self) -> None:
        """Compare what was seen with what was expected."""

    # What is seen.

    @property
    def is_known(self) -> bool:
        """True once the scheduler has made the Airflow task."""
        return self.case.name in self._tasks

    @property
    def task(self) -> TaskInstance:
        """The Airflow task."""
        if not self.is_known:
            raise CaseError("its DAG run has no task")
        return self._tasks[self.case.name]

    @property
    def has_ended(self) -> bool:
        """True when no further try will follow by itself."""
        return self.is_known and self.task.state in END_STATES

    @property
    def is_parked(self) -> bool:
        """True when the Airflow task is parked until a person answers."""
        return self.is_known and self.task.state == "awaiting_input"

    @property
    def has_left_worker(self) -> bool:
        """True when the scheduler has heard of the end of the worker that had the Airflow task last."""
        log = (self.cluster.log_folder / "scheduler.log").read_text(errors="replace")
        ends = [line for line in log.splitlines() if LEFT_WORKER in line and self.task.instance_id in line]
        # Both moments are written alike, but for the zone at their ends.
        return bool(ends) and ends[-1].split("Z")[0] > str(self.task.queued_at).rstrip("Z")

    def read_logs(self, pattern: str = "*.log") -> str:
        """Return what has been written into the Airflow task's log; ``*.trigger.*`` for triggerers only."""
        logs = (self.cluster.home / "logs" / f"dag_id={self.case.name}").rglob(pattern)
        return "".join(log.read_text(errors="replace") for log in logs)

    # What is waited for: the first look is at the next step, when Airflow's tasks have been read anew.

    def until(self, condition: Callable[[], object], wish: str, *, timeout: float = PATIENCE) -> Steps:
        """Wait until a condition holds; raise CaseError with the wish when it does not in time."""
        deadline = time.monotonic() + timeout
        yield
        while not condition():
            if time.monotonic() > deadline:
                state = self.task.state if self.is_known else None
                raise CaseError(f"not within {timeout:.0f} s: {wish} (the Airflow task is {state})")
            yield

    def until_deferred(self) -> Steps:
        """Wait until the Airflow task has deferred, whether or not a triggerer has taken it."""
        yield from self.until(
            lambda: self.is_known and self.task.state == "deferred", "the Airflow task was deferred"
        )

    def until_waited_for(self) -> Steps:
        """Wait until Airflow waits for the remote task, where the case says."""
        yield from self.until(lambda: self.is_waited_for, "Airflow waits for the remote task")

    def until_ended(self, *, tries: int = 0) -> Steps:
        """Wait for the Airflow task's end, in a certain try or a later one."""
        yield from self.until(lambda: self.has_ended and self.task.tries >= tries, "the Airflow task ended")

    def until_dag_run_ended(self) -> Steps:
        """Wait for the end of the DAG run: Airflow forgets a clear that comes in the moment before it."""
        yield from self.until_ended()
        yield from self.until(
            lambda: self.cluster.api.read_run_state(self.case.name, self.task.run_id) in RUN_END_STATES,
            "the DAG run ended",
        )

    @staticmethod
    def pause(seconds: float) -> Steps:
        """Let time pass, where the case is a duration."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield

    # What is done.

    def start(self) -> None:
        """Start the DAG run."""
        self.cluster.api.trigger(self.case.name)

    def start_and_wait(self) -> Steps:
        """Start the DAG run, and wait until Airflow waits for the remote task."""
        self.start()
        yield from self.until_waited_for()

    def kill_worker(self) -> None:
        """SIGKILL the task's process and its supervisor, as if their machine was lost; others live on."""
        instance_id = self.task.instance_id
        if not find_titled(instance_id):
            raise CaseError("no worker runs the Airflow task")

        def is_dead() -> bool:
            for pid in find_titled(instance_id):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not find_titled(instance_id)

        wait_until(is_dead, timeout=5.0, interval=0.01)

    def terminate_worker(self) -> None:
        """Send SIGTERM to the supervisor of the task's process, as a machine does that is drained."""
        pids = find_titled(self.task.instance_id)
        if not pids:
            raise CaseError("no worker runs the Airflow task")
        # The task's process is a child of its supervisor, so it is younger.
        os.kill(min(pids), signal.SIGTERM)

    def mark(self, state: str) -> float:
        """Mark the Airflow task as a person does, and return the moment."""
        moment = time.time()
        self.cluster.api.mark(self.task, state)
        return moment

    def mark_dag_run(self, state: str) -> float:
        """Mark the DAG run as a person does, and return the moment."""
        moment = time.time()
        self.cluster.api.mark_run(self.task, state)
        return moment

    def clear(self) -> None:
        """Clear the Airflow task as a person does."""
        self.cluster.api.clear(self.task)

    # What is judged.

    def check(self, is_right: object, problem: str) -> None:
        """Note a problem unless something is right."""
        if not is_right:
            self.outcome.problems.append(problem)

    def measure(self, what: str, seconds: float) -> None:
        """Note seconds for the table."""
        self.outcome.measures.setdefault(what, []).append(seconds)
