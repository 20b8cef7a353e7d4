"""
``make parked``: 100 agent tasks that all wait for a person, and what they occupy by Airflow's own counts.

Exits with 0 only if it is nothing, and each agent has heard its own answer, once.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

# The Airflow that they park in is the demo's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

from airflow_api import AirflowApiError, TaskInstance
from airflow_cluster import AirflowCluster, ClusterError, ClusterTimeoutError
from case_run import list_messages
from demo_setup import say
from processes import find_titled, raise_on_termination, wait_until
from report import print_table

from airflow_agent_tasks.sandbox.server import Sandbox

#: As many as a page of Airflow's REST API holds.
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
HOME = Path(__file__).resolve().parents[1] / ".demo" / "parked"
#: Seconds in which all of them have to be parked, and later to succeed.
PATIENCE = 900.0
#: Seconds in which the workers have to leave that parked the last ones.
SECONDS_TO_LEAVE = 30.0


class Parked:
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
        Wait until all tasks are parked, and their workers have left.

        :raises ClusterTimeoutError: They were not in time.
        """
        if not wait_until(lambda: self.count_states() == ALL_PARKED, timeout=PATIENCE, interval=1.0):
            raise ClusterTimeoutError(f"not all were parked after {PATIENCE:.0f} s: {self.count_states()}")
        wait_until(lambda: not self._count_processes(), timeout=SECONDS_TO_LEAVE)

    def count_what_is_occupied(self) -> dict[str, int]:
        """Return what the parked tasks occupy, by Airflow's own counts."""
        pool = self._cluster.api.request("GET", "/pools/default_pool")
        kinds = ("occupied", "running", "queued", "scheduled", "deferred")
        return {
            "rows of the table of triggers": self._count_rows("trigger"),
            "of these, taken by the triggerer": self._count_rows("trigger where triggerer_id is not null"),
            **{f"{kind} slots of the pool": int(pool[f"{kind}_slots"]) for kind in kinds},
            "processes of workers and of tasks": self._count_processes(),
        }

    def answer(self) -> None:
        """Answer each question with words of its own, and wait for the end of the run."""
        for form in self._cluster.api.list_questions(DAG_ID):
            self._cluster.api.answer(form, f"Number {form['task_instance']['map_index']}.")
        self._cluster.wait_for_run(DAG_ID, self._run_id, timeout=PATIENCE)

    def count_heard(self) -> int:
        """Return how many agents have heard nothing but their own answer, and this once."""
        messages = {task["request"]["message"]: list_messages([task]) for task in self._sandbox.tasks()}
        return sum(heard == [f"Number {text.split()[-1]}"] for text, heard in messages.items())

    def count_states(self) -> dict[str | None, int]:
        """Return how many tasks are in each state."""
        return dict(Counter(task.state for task in self.list_tasks()))

    def list_tasks(self) -> list[TaskInstance]:
        """Return the tasks of the run."""
        return self._cluster.api.list_tasks(DAG_ID, self._run_id)

    def _count_processes(self) -> int:
        return sum(len(find_titled(task.instance_id)) for task in self.list_tasks())

    def _count_rows(self, what: str) -> int:
        with closing(sqlite3.connect(self._cluster.home / "airflow.db")) as connection:
            return int(connection.execute(f"select count(*) from {what}").fetchone()[0])  # noqa: S608


def main() -> int:
    """Park, count, answer, print the table and return the exit status."""
    raise_on_termination()
    dags_folder = HOME / "dags"
    dags_folder.mkdir(parents=True, exist_ok=True)
    (dags_folder / f"{DAG_ID}.py").write_text(DAG_SOURCE)
    try:
        with Sandbox() as sandbox:
            environment = {**SETTINGS, **sandbox.connection_variables()}
            say("Starting Airflow (about 30 s) ...")
            with AirflowCluster(
                HOME / "airflow", dags_folder=dags_folder, environment=environment
            ) as cluster:
                cluster.wait_for_dags([DAG_ID])
                return measure(Parked(cluster, sandbox))
    except (ClusterError, AirflowApiError) as error:
        print(f"They could not be parked: {error}", file=sys.stderr)
        return 1


def measure(parked: Parked) -> int:
    """Let it all happen, print what was seen and return the exit status."""
    say(f"Starting {COUNT} agent tasks that ask at once ...")
    parked.park()
    states, occupied = parked.count_states(), parked.count_what_is_occupied()
    say(f"All are parked. Answering all {COUNT} over Airflow's REST API ...")
    parked.answer()
    say("All have ended.")
    tries = sum(task.tries for task in parked.list_tasks())
    ends, heard = parked.count_states(), parked.count_heard()
    rows = [
        ("while parked: task instances", describe(states)),
        *((f"while parked: {what}", count) for what, count in occupied.items()),
        ("in the end: task instances", f"{describe(ends)} in {tries} tries"),
        ("agents that heard their own answer once, and nothing else", heard),
    ]
    print()
    print_table(("what", "seen"), rows)
    is_right = not any(occupied.values()) and (ends, tries, heard) == ({"success": COUNT}, COUNT, COUNT)
    return 0 if is_right else 1


def describe(states: Mapping[str | None, int]) -> str:
    """Say how many are in each state."""
    return ", ".join(f"{count} {state}" for state, count in states.items())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # The cluster has been stopped on the way here.
        sys.exit(130)
