"""One round: a fresh Airflow in which every case happens once."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from airflow_api import AirflowApiError, TaskInstance
from airflow_cluster import AirflowCluster, ClusterError
from airflow_run import AirflowRun, Outcome
from case import Case, CaseError, Scenario, Steps
from case_run import CaseRun
from peer_run import PeerRun

#: So many scenarios at a time: what they have to do in five seconds must not wait for two busy cores.
SIDE_BY_SIDE = 10
#: Seconds between two looks at everything.
TICK = 0.3
DAG_FILE = Path(__file__).resolve().parent / "fault_dags.py"

SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    # Seconds after which a worker counts as lost, and between two looks for one; 300 and 10 by default.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    # Seconds after which a triggerer counts as lost, and between two signs of life; 30 and 5 by default.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    # A worker tries again every two seconds while the API server is away. By default it waits longer and
    # longer, which would be taken for its loss with the short time-out above.
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "60",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "2",
}

Say = Callable[[str], None]


class Round:
    """
    A running Airflow with a run of each case.

    :param home: An empty or missing folder, or one of an earlier round.
    :param say: Told what goes on.
    """

    def __init__(self, home: Path, say: Say) -> None:
        self._home = home
        self._say = say
        self._tasks: dict[str, TaskInstance] = {}

    def perform(self, together: Sequence[Scenario], alone: Sequence[Scenario]) -> dict[str, Outcome]:
        """
        Let every scenario happen once and return what came of it, by case.

        :param together: Scenarios that go on side by side.
        :param alone: Scenarios that break a part of Airflow; they follow one after the other.
        """
        cases = [case for scenario in (*together, *alone) for case in scenario.cases]
        with ExitStack() as stack:
            self._runs = {case.name: stack.enter_context(build_run(case)) for case in cases}
            self._cluster = stack.enter_context(self._build_cluster())
            self._cluster.wait_for_dags(self._runs)
            for run in self._runs.values():
                run.join(self._cluster, self._tasks)
            self._say(f"Airflow is ready at {self._cluster.api.base_url}")
            self._step_through(together, SIDE_BY_SIDE)
            self._step_through(alone, 1)
        return {name: run.outcome for name, run in self._runs.items()}

    def _build_cluster(self) -> AirflowCluster:
        dags_folder = self._home / "dags"
        shutil.rmtree(dags_folder, ignore_errors=True)
        dags_folder.mkdir(parents=True)
        shutil.copy(DAG_FILE, dags_folder)
        environment = dict(SETTINGS)
        for run in self._runs.values():
            run.write_dag(dags_folder)
            environment |= run.environment
        return AirflowCluster(self._home / "airflow", dags_folder=dags_folder, environment=environment)

    def _step_through(self, scenarios: Iterable[Scenario], at_a_time: int) -> None:
        waiting = deque(scenarios)
        active: list[Steps] = []
        while waiting or active:
            while waiting and len(active) < at_a_time:
                active.append(self._happen(waiting.popleft()))
            self._cluster.check_programs()
            self._look()
            active = [steps for steps in active if go_on(steps)]
            time.sleep(TICK)

    def _look(self) -> None:
        try:
            found = self._cluster.api.list_tasks("~", "~")
        except AirflowApiError:
            # A restart of the API server is one of the cases; what was seen last stays valid until then.
            return
        self._tasks.update({task.dag_id: task for task in found})

    def _happen(self, scenario: Scenario) -> Steps:
        runs = [self._runs[case.name] for case in scenario.cases]
        started = time.monotonic()
        try:
            yield from scenario.drive(*runs)
        except (CaseError, AirflowApiError, ClusterError) as error:
            for run in runs:
                run.check(False, str(error))
        for run in runs:
            run.judge()
            verdict = "; ".join(run.outcome.problems) or "as expected"
            self._say(f"{run.case.name}, {time.monotonic() - started:.0f} s: {verdict}")


def build_run(case: Case) -> AirflowRun:
    """Return a run of a case: of ours, or of a peer that is put through the same."""
    return PeerRun(case) if case.is_comparison else CaseRun(case)


def go_on(steps: Steps) -> bool:
    """Do the next of some steps; return False when there was none left."""
    try:
        next(steps)
    except StopIteration:
        return False
    return True
