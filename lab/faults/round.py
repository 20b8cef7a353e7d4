"""One round: a fresh Airflow in which every case runs once."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from packaging.version import Version

from lab.cluster.airflow_api import AirflowApiError, TaskInstance
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterError
from lab.cluster.installed_airflow import INSTALLED
from lab.command_line import log_progress
from lab.faults.case_definition import Case, CaseError, CaseSkipped, Scenario, Steps, TaskKey
from lab.faults.case_run import CaseRun, Outcome
from lab.faults.cases import CONCURRENT_SCENARIOS, EXCLUSIVE_SCENARIOS
from lab.faults.our_case_run import OurCaseRun
from lab.faults.peer_case_run import PeerCaseRun

#: With more, two busy cores would miss the five seconds within which an agent task must be stopped.
MAX_CONCURRENT_CASES = 10
#: Seconds between two polls of Airflow.
POLL_INTERVAL = 0.3
DAG_FILE = Path(__file__).with_name("fault_dags.py")

SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    # Seconds that a worker has to end its task, by default 60; before Airflow 3.4 it is always 5.
    "AIRFLOW__CORE__KILLED_TASK_CLEANUP_TIME": "5",
    # Seconds after which a triggerer counts as lost, and between two heartbeats; default 30 and 5.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    # While the API server is down, a worker retries every two seconds. By default, its waits grow, and with
    # the short timeout below it would count as lost.
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "60",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "2",
}
#: Lets an Airflow before 3.4, whose LocalExecutor does not notice a killed worker, find it soon.
SHORT_HEARTBEAT_TIMEOUT = {
    # Seconds after which a worker counts as lost, and between two checks for lost ones; default 300 and 10.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
}
#: The version whose scheduler crashes with an IntegrityError when a worker counts as lost.
ENDS_OVER_LOST_WORKERS = Version("3.4.0b2")


def build_settings(airflow: Version) -> dict[str, str]:
    """Return the settings of a round in this version of Airflow."""
    return SETTINGS | ({} if airflow == ENDS_OVER_LOST_WORKERS else SHORT_HEARTBEAT_TIMEOUT)


def run_round(home: Path, cases: Sequence[Case], *, database_url: str | None = None) -> dict[str, Outcome]:
    """
    Run these cases once in a fresh Airflow, and return the outcomes by name.

    :param home: An empty or missing folder, or the home of an earlier round.
    :param cases: The cases; the other cases of their scenarios run too.
    :param database_url: An empty PostgreSQL database for Airflow; default SQLite.
    """
    concurrent = select_scenarios(CONCURRENT_SCENARIOS, cases)
    exclusive = select_scenarios(EXCLUSIVE_SCENARIOS, cases)
    return Round(home, database_url).run(concurrent, exclusive)


def select_scenarios(scenarios: Sequence[Scenario], cases: Sequence[Case]) -> list[Scenario]:
    """Return the complete scenarios of these cases, without peers that were not selected."""
    kept = []
    for scenario in scenarios:
        if any(case in cases for case in scenario.cases):
            members = tuple(case for case in scenario.cases if case in cases or not case.is_comparison)
            kept.append(Scenario(scenario.drive, members))
    return kept


class Round:
    """
    A running Airflow with one run of each case.

    :param home: An empty or missing folder, or the home of an earlier round.
    :param database_url: An empty PostgreSQL database for Airflow; default SQLite.
    """

    def __init__(self, home: Path, database_url: str | None = None) -> None:
        self._home = home
        self._database_url = database_url
        self._tasks: dict[TaskKey, TaskInstance] = {}

    def run(
        self,
        concurrent: Sequence[Scenario],
        exclusive: Sequence[Scenario],
        *,
        max_cases: int = MAX_CONCURRENT_CASES,
    ) -> dict[str, Outcome]:
        """
        Run every scenario once and return the outcomes by case.

        :param concurrent: Scenarios that run at the same time.
        :param exclusive: Scenarios that break a part of Airflow; they run one after the other.
        :param max_cases: Maximum number of cases that run at the same time.
        """
        cases = [case for scenario in (*concurrent, *exclusive) for case in scenario.cases]
        with ExitStack() as stack:
            self._runs = {case.name: stack.enter_context(build_run(case)) for case in cases}
            self._cluster = stack.enter_context(self._build_cluster())
            self._cluster.wait_for_dags(case.dag_id for case in cases)
            for run in self._runs.values():
                run.attach(self._cluster, self._tasks)
            log_progress(f"Airflow is ready at {self._cluster.api.base_url}")
            self._run_scenarios(concurrent, max_cases)
            self._run_scenarios(exclusive, 1)
        return {name: run.outcome for name, run in self._runs.items()}

    def _build_cluster(self) -> AirflowCluster:
        dags_folder, artifacts_folder = self._home / "dags", self._home / "artifacts"
        for folder in (dags_folder, artifacts_folder):
            shutil.rmtree(folder, ignore_errors=True)
        dags_folder.mkdir(parents=True)
        shutil.copy(DAG_FILE, dags_folder)
        environment = build_settings(INSTALLED)
        for run in self._runs.values():
            run.write_dag(dags_folder, artifacts_folder)
            environment |= run.environment
        return AirflowCluster(
            self._home / "airflow",
            dags_folder=dags_folder,
            environment=environment,
            database_url=self._database_url,
        )

    def _run_scenarios(self, scenarios: Iterable[Scenario], max_cases: int) -> None:
        """Run scenarios at the same time: at least one, and as many as ``max_cases`` allows."""
        waiting = deque(scenarios)
        active: list[tuple[Scenario, Steps]] = []
        while waiting or active:
            while waiting and (not active or count_cases(active) + len(waiting[0].cases) <= max_cases):
                active.append((waiting[0], self._run_scenario(waiting.popleft())))
            self._cluster.check_programs()
            self._poll_airflow()
            active = [(scenario, steps) for scenario, steps in active if advance(steps)]
            time.sleep(POLL_INTERVAL)

    def _poll_airflow(self) -> None:
        try:
            found = self._cluster.api.list_tasks("~", "~")
        except AirflowApiError:
            # One case restarts the API server; until it responds again, the last poll stays valid.
            return
        self._tasks.update({(task.dag_id, task.task_id, task.map_index): task for task in found})

    def _run_scenario(self, scenario: Scenario) -> Steps:
        runs = [self._runs[case.name] for case in scenario.cases]
        started = time.monotonic()
        try:
            yield from scenario.drive(*runs)
        except CaseSkipped as error:
            for run in runs:
                run.outcome.skipped = str(error)
        except (CaseError, AirflowApiError, ClusterError) as error:
            for run in runs:
                run.check(False, str(error))
        for run in runs:
            if not run.outcome.skipped:
                run.check_outcome()
            verdict = run.outcome.skipped or "; ".join(run.outcome.problems) or "as expected"
            log_progress(f"{run.case.name}, {time.monotonic() - started:.0f} s: {verdict}")


def build_run(case: Case) -> CaseRun:
    """Return a run of a case, of this package or of a peer."""
    return PeerCaseRun(case) if case.is_comparison else OurCaseRun(case)


def count_cases(active: Iterable[tuple[Scenario, Steps]]) -> int:
    """Return the number of cases in the active scenarios."""
    return sum(len(scenario.cases) for scenario, _ in active)


def advance(steps: Steps) -> bool:
    """Run a scenario up to its next wait; return False if it has ended."""
    try:
        next(steps)
    except StopIteration:
        return False
    return True
