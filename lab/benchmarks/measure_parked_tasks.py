"""
``make parked``: let 100 agent tasks wait for an answer, and count the resources that they occupy in Airflow.

Exits with 0 only if they occupy none, and each agent receives its own answer exactly once.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from airflow_agent_tasks.sandbox.server import Sandbox
from lab.cluster.airflow_api import AirflowApiError, TaskInstance
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterError, ClusterTimeoutError
from lab.cluster.processes import find_by_command_line, wait_until
from lab.command_line import build_parser, log_progress, print_table, run_command
from lab.faults.our_case_run import list_messages
from lab.paths import HOMES

#: The size of one page of Airflow's REST API.
COUNT = 100
DAG_ID = "parked"
DAG_SOURCE = f"""
from airflow.sdk import DAG

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

SCRIPT = '#sandbox {{"steps": 2, "step_seconds": 0, "ask": ["Which?"]}}'

with DAG({DAG_ID!r}, schedule=None):
    ShinzoTaskOperator.partial(task_id="agent", deferrable=True).expand(
        message=[f"{{SCRIPT}}\\nThis is number {{number}}." for number in range({COUNT})]
    )
"""
ALL_PARKED = {"awaiting_input": COUNT}
SETTINGS = {"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False"}
#: Seconds within which all tasks must be parked, and the same again for all to succeed.
RUN_TIMEOUT = 900.0
#: Seconds for the workers that parked the last tasks to exit.
WORKER_EXIT_TIMEOUT = 30.0


class ParkedRun:
    """
    A run of the DAG in a running Airflow.

    :param cluster: The Airflow.
    :param sandbox: The service.
    """

    def __init__(self, cluster: AirflowCluster, sandbox: Sandbox) -> None:
        self._cluster = cluster
        self._sandbox = sandbox
        self._run_id = cluster.api.trigger(DAG_ID)

    def park(self) -> None:
        """
        Wait until all tasks are parked, and their workers have exited.

        :raises ClusterTimeoutError: Not all were parked in time.
        """
        if not wait_until(lambda: self.count_states() == ALL_PARKED, timeout=RUN_TIMEOUT, interval=1.0):
            raise ClusterTimeoutError(f"not all were parked after {RUN_TIMEOUT:.0f} s: {self.count_states()}")
        wait_until(lambda: not self._count_processes(), timeout=WORKER_EXIT_TIMEOUT)

    def count_occupied_resources(self) -> dict[str, int]:
        """Return the resources that the parked tasks occupy, by Airflow's own counts."""
        pool = self._cluster.api.request("GET", "/pools/default_pool")
        kinds = ("occupied", "running", "queued", "scheduled", "deferred")
        return {
            "rows in the table of triggers": self._count_rows("trigger"),
            "of these, assigned to a triggerer": self._count_rows("trigger where triggerer_id is not null"),
            **{f"{kind} slots of the pool": int(pool[f"{kind}_slots"]) for kind in kinds},
            "processes of workers and of tasks": self._count_processes(),
        }

    def answer(self) -> None:
        """Answer each question with its own reply, and wait for the end of the run."""
        for form in self._cluster.api.list_questions(DAG_ID):
            self._cluster.api.answer(form, f"Number {form['task_instance']['map_index']}.")
        self._cluster.wait_for_run(DAG_ID, self._run_id, timeout=RUN_TIMEOUT)

    def count_answered(self) -> int:
        """Return how many agents received their own answer exactly once, and nothing else."""
        messages = {task["request"]["message"]: list_messages([task]) for task in self._sandbox.tasks()}
        return sum(received == [f"Number {text.split()[-1]}"] for text, received in messages.items())

    def count_states(self) -> dict[str | None, int]:
        """Return how many tasks are in each state."""
        return dict(Counter(task.state for task in self.list_tasks()))

    def list_tasks(self) -> list[TaskInstance]:
        """Return the tasks of the run."""
        return self._cluster.api.list_tasks(DAG_ID, self._run_id)

    def _count_processes(self) -> int:
        return len(find_by_command_line(*(task.instance_id for task in self.list_tasks())))

    def _count_rows(self, what: str) -> int:
        with closing(sqlite3.connect(self._cluster.home / "airflow.db")) as connection:
            return int(connection.execute(f"select count(*) from {what}").fetchone()[0])  # noqa: S608


def main() -> int:
    """Park, count, answer, print the table and return the exit status."""
    build_parser("lab.benchmarks.measure_parked_tasks", __doc__).parse_args()
    home = HOMES / "parked"
    dags_folder = home / "dags"
    dags_folder.mkdir(parents=True, exist_ok=True)
    (dags_folder / f"{DAG_ID}.py").write_text(DAG_SOURCE)
    try:
        with Sandbox() as sandbox:
            environment = {**SETTINGS, **sandbox.connection_variables()}
            log_progress("Starting Airflow (about 30 s) ...")
            with AirflowCluster(
                home / "airflow", dags_folder=dags_folder, environment=environment
            ) as cluster:
                cluster.wait_for_dags([DAG_ID])
                return measure(ParkedRun(cluster, sandbox))
    except (ClusterError, AirflowApiError) as error:
        print(f"The tasks could not be parked: {error}", file=sys.stderr)
        return 1


def measure(parked: ParkedRun) -> int:
    """Park and answer the tasks, print the counts and return the exit status."""
    log_progress(f"Starting {COUNT} agent tasks that ask at once ...")
    parked.park()
    states, occupied = parked.count_states(), parked.count_occupied_resources()
    log_progress(f"All are parked. Answering all {COUNT} over Airflow's REST API ...")
    parked.answer()
    log_progress("All have ended.")
    tries = sum(task.tries for task in parked.list_tasks())
    ends, answered = parked.count_states(), parked.count_answered()
    rows = [
        ("while parked: task instances", describe(states)),
        *((f"while parked: {what}", count) for what, count in occupied.items()),
        ("in the end: task instances", f"{describe(ends)} in {tries} tries"),
        ("agents that received their own answer once, and nothing else", answered),
    ]
    print()
    print_table(("what", "count"), rows)
    is_right = not any(occupied.values()) and (ends, tries, answered) == ({"success": COUNT}, COUNT, COUNT)
    return 0 if is_right else 1


def describe(states: Mapping[str | None, int]) -> str:
    """Describe the number of tasks in each state."""
    return ", ".join(f"{count} {state}" for state, count in states.items())


if __name__ == "__main__":
    run_command(main)
