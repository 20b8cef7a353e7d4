"""One run of a case, as Airflow sees it: its task, the actions on it, and the outcome."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.cluster.airflow_api import TaskInstance
from lab.cluster.airflow_cluster import RUN_END_STATES, AirflowCluster
from lab.cluster.processes import find_by_command_line, wait_until
from lab.faults.case_definition import Case, CaseError, Steps, TaskKey

#: Default timeout of each wait in a case, in seconds: two cores run all cases at once.
WAIT_TIMEOUT = 120.0
#: The scheduler's log line, with the task instance's id, when its executor has reported a worker's exit.
WORKER_EXITED = "TaskInstance Finished: "
END_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass
class Outcome:
    """
    The outcome of one run of a case.

    :param started: Remote tasks that were started.
    :param left_running: Remote tasks still running, because Airflow's side did not stop them.
    :param lost: Results that were wrong or not delivered.
    :param measures: The durations that the case measured, in seconds, by name.
    :param problems: Differences from the expected outcome.
    :param skipped: Why the case does not apply to the installed Airflow; empty if it does.
    """

    started: int = 0
    left_running: int = 0
    lost: int = 0
    measures: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""


class CaseRun(AbstractContextManager["CaseRun"], ABC):
    """
    One run of a case.

    :param case: The case.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.outcome = Outcome()

    def attach(self, cluster: AirflowCluster, tasks: Mapping[TaskKey, TaskInstance]) -> None:
        """Set the Airflow that runs the case's DAG, and its tasks, which are refreshed before each step."""
        self.cluster = cluster
        self._tasks = tasks

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The environment variables with the connection to the service."""

    @abstractmethod
    def write_dag(self, dags_folder: Path, artifacts_folder: Path) -> None:
        """Write the file that defines the case's DAG; its object storage is below ``artifacts_folder``."""

    @property
    @abstractmethod
    def is_waited_for(self) -> bool:
        """True when Airflow waits for the remote task, deferred or on a worker as the case defines."""

    @abstractmethod
    def check_outcome(self) -> None:
        """Note every difference from the expected outcome."""

    # The state in Airflow.

    @property
    def is_known(self) -> bool:
        """True once the scheduler has created the Airflow task."""
        return self.case.task_key in self._tasks

    @property
    def task(self) -> TaskInstance:
        """The Airflow task."""
        if not self.is_known:
            raise CaseError("its DAG run has no task")
        return self._tasks[self.case.task_key]

    @property
    def has_ended(self) -> bool:
        """True when no further try will start by itself."""
        return self.is_known and self.task.state in END_STATES

    @property
    def is_parked(self) -> bool:
        """True when the Airflow task is parked until someone answers."""
        return self.is_known and self.task.state == "awaiting_input"

    @property
    def has_worker_exited(self) -> bool:
        """True when the scheduler knows that the Airflow task's last worker has exited."""
        log = self.read_scheduler_log().splitlines()
        ends = [line for line in log if WORKER_EXITED in line and self.task.instance_id in line]
        # Both times have the same format, except for the zone at the end.
        return bool(ends) and ends[-1].split("Z")[0] > str(self.task.queued_at).rstrip("Z")

    def read_logs(self, pattern: str = "*.log") -> str:
        """Return the Airflow task's log; with ``*.trigger.*``, only the triggerers' part."""
        index = f"map_index={self.case.map_index}/" if self.case.map_index >= 0 else ""
        folder = f"dag_id={self.case.dag_id}/run_id=*/task_id={self.case.task_id}/{index}"
        logs = (self.cluster.home / "logs").glob(folder + pattern)
        return "".join(log.read_text(errors="replace") for log in logs)

    def read_scheduler_log(self) -> str:
        """Return the output of the scheduler and of the supervisors of its workers."""
        return (self.cluster.log_folder / "scheduler.log").read_text(errors="replace")

    # Waits. Each begins with a yield: Airflow's tasks are refreshed before the next step.

    def until(self, condition: Callable[[], object], what: str, *, timeout: float = WAIT_TIMEOUT) -> Steps:
        """Wait until a condition holds; if it does not in time, raise a CaseError that names it."""
        deadline = time.monotonic() + timeout
        yield
        while not condition():
            if time.monotonic() > deadline:
                state = self.task.state if self.is_known else None
                raise CaseError(f"not within {timeout:.0f} s: {what} (the Airflow task is {state})")
            yield

    def until_deferred(self) -> Steps:
        """Wait until the Airflow task has deferred, whether or not a triggerer has its trigger."""
        yield from self.until(
            lambda: self.is_known and self.task.state == "deferred", "the Airflow task was deferred"
        )

    def until_waited_for(self) -> Steps:
        """Wait until Airflow waits for the remote task; see ``is_waited_for``."""
        yield from self.until(lambda: self.is_waited_for, "Airflow waits for the remote task")

    def until_ended(self, *, tries: int = 0) -> Steps:
        """Wait for the Airflow task's end, in this try or a later one."""
        yield from self.until(lambda: self.has_ended and self.task.tries >= tries, "the Airflow task ended")

    def until_dag_run_ended(self) -> Steps:
        """Wait for the end of the DAG run: Airflow loses a clear that comes just before it."""
        yield from self.until_ended()
        yield from self.until(
            lambda: self.cluster.api.read_run_state(self.case.dag_id, self.task.run_id) in RUN_END_STATES,
            "the DAG run ended",
        )

    @staticmethod
    def pause(seconds: float) -> Steps:
        """Wait, for a case that needs a duration."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield

    # Actions.

    def start(self) -> None:
        """Start the DAG run."""
        self.cluster.api.trigger(self.case.dag_id)

    def start_and_wait(self) -> Steps:
        """Start the DAG run, and wait until Airflow waits for the remote task."""
        self.start()
        yield from self.until_waited_for()

    def kill_worker(self) -> None:
        """SIGKILL the task's process and its supervisor, like the loss of their machine."""
        instance_id = self.task.instance_id
        self._find_worker()

        def is_dead() -> bool:
            for pid in find_by_command_line(instance_id):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not find_by_command_line(instance_id)

        wait_until(is_dead, timeout=5.0, interval=0.01)

    def kill_task_process(self) -> None:
        """SIGKILL the task's process alone, as a system without memory does: its supervisor reports it."""
        os.kill(max(self._find_worker()), signal.SIGKILL)

    def terminate_worker(self) -> None:
        """Send SIGTERM to the supervisor of the task's process, as draining its machine does."""
        os.kill(min(self._find_worker()), signal.SIGTERM)

    def _find_worker(self) -> set[int]:
        """Return the ids of the task's process and of its supervisor, which is older."""
        pids = find_by_command_line(self.task.instance_id)
        if not pids:
            raise CaseError("no worker runs the Airflow task")
        return pids

    def mark(self, state: str) -> float:
        """Mark the Airflow task as a user does, and return the time of the call."""
        moment = time.time()
        self.cluster.api.mark(self.task, state)
        return moment

    def mark_dag_run(self, state: str) -> float:
        """Mark the DAG run as a user does, and return the time of the call."""
        moment = time.time()
        self.cluster.api.mark_run(self.task, state)
        return moment

    def clear(self, *, keep_task_state: bool = False) -> None:
        """Clear the Airflow task (only this index of a mapped one), as a user does."""
        self.cluster.api.clear(self.task, keep_task_state=keep_task_state)

    # The outcome.

    def check(self, is_right: object, problem: str) -> None:
        """Note a problem unless the condition holds."""
        if not is_right:
            self.outcome.problems.append(problem)

    def measure(self, what: str, seconds: float) -> None:
        """Add seconds to the table."""
        self.outcome.measures.setdefault(what, []).append(seconds)
