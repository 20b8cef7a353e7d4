"""
Measures in a real Airflow how long after the end of an agent task its Airflow task resumes.

Each agent task has its own DAG run; the runs begin one after the other, so the agents end one after the
other. The time begins when the sandbox's agent ends, just before the sandbox calls, and ends in the process
of the resumed task, in the first line of its resume method. The kinds:

- callbacks: the service calls Airflow;
- polling: the same tasks without a callback; the longer an agent works, the later its end is seen;
- alarm: a trigger of Airflow's own kind that fires at a known moment, the least that Airflow itself needs.

Status requests are all requests for the state of an agent task, by the triggerer and by the worker. Exits
with 0 only if every run succeeded.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from airflow_agent_tasks.sandbox.server import Sandbox
from lab.benchmarks import database
from lab.benchmarks.airflow_defaults import DEFAULTS
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.percentile import describe
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterTimeoutError
from lab.cluster.processes import wait_until
from lab.command_line import build_parser, log_progress, run_command
from lab.paths import HOMES, ROOT

TITLES = {"callbacks": "with callbacks", "polling": "polling", "alarm": "Airflow's own trigger"}
STATUS_REQUEST = re.compile("/agent/[^/]+/task/([^/]+)")
#: Seconds beyond the time of the agents within which the runs must end.
PATIENCE = 600.0
HEADINGS = ("", "runs", "end to resume s p50 / p99 / max", "status requests per task, mean", "most")


def build_dags(seconds: float) -> str:
    """Return the source of one DAG for each kind, whose agents work for so many seconds."""
    script = json.dumps({"steps": 1, "step_seconds": seconds})
    return f"""
from airflow.sdk import DAG

from lab.benchmarks.timed_resume import AlarmOperator, TimedShinzoTaskOperator

LIMITS = {{"schedule": None, "max_active_runs": 10_000, "max_active_tasks": 10_000}}
MESSAGE = {"#sandbox " + script!r} + "\\nThis is for {{{{ run_id }}}}"

with DAG("callbacks", **LIMITS):
    TimedShinzoTaskOperator(task_id="agent", message=MESSAGE, callback_mode="webhook", deferrable=True)
with DAG("polling", **LIMITS):
    TimedShinzoTaskOperator(task_id="agent", message=MESSAGE, deferrable=True)
with DAG("alarm", **LIMITS):
    AlarmOperator(task_id="alarm", seconds={seconds})
"""


class Measurement:
    """
    Runs of one DAG after the other in a running Airflow.

    :param cluster: The Airflow.
    :param sandbox: The service.
    :param resumes: The file in which the tasks note their resumes.
    :param arguments: The number of tasks, their length and their distance.
    """

    def __init__(
        self, cluster: AirflowCluster, sandbox: Sandbox, resumes: Path, arguments: argparse.Namespace
    ) -> None:
        self._cluster = cluster
        self._sandbox = sandbox
        self._resumes = resumes
        self._arguments = arguments

    def measure(self, kind: str) -> tuple[Any, ...]:
        """Run all tasks of a kind, and return the row of the table."""
        self._sandbox.forget()
        self._resumes.write_text("")
        log_progress(f"{TITLES[kind]}: {self._arguments.tasks} runs ...")
        self._run(kind)
        agents = self._sandbox.tasks()
        ends = {agent["request"]["message"].split()[-1]: agent["ended_at"] for agent in agents}
        lines = [json.loads(line) for line in self._resumes.read_text().splitlines()]
        delays = [resumed - (ends[run_id] if due is None else due) for run_id, due, resumed in lines]
        return (TITLES[kind], len(delays), describe(delays, 2), *self._count_requests(agents))

    def _run(self, dag_id: str) -> None:
        given = self._arguments
        for _ in range(given.tasks):
            self._cluster.api.trigger(dag_id)
            time.sleep(given.every)
        timeout = given.seconds + PATIENCE
        if not wait_until(
            lambda: not self._count_runs(dag_id, "queued", "running"), timeout=timeout, interval=1.0
        ):
            raise ClusterTimeoutError(f"not all runs of {dag_id} ended in {timeout:.0f} s")
        if failed := self._count_runs(dag_id, "failed"):
            raise SystemExit(f"{failed} runs of {dag_id} failed; see {self._cluster.home / 'logs'}")

    def _count_runs(self, dag_id: str, *states: str) -> int:
        self._cluster.check_programs()
        found = self._cluster.api.request(
            "GET", f"/dags/{dag_id}/dagRuns", parameters={"state": states, "limit": 1}
        )
        return int(found["total_entries"])

    def _count_requests(self, agents: list[dict[str, Any]]) -> tuple[str, str]:
        if not agents:
            return "", ""
        matches = [
            STATUS_REQUEST.fullmatch(one["path"])
            for one in self._sandbox.requests()
            if one["method"] == "GET"
        ]
        counts = Counter(match[1] for match in matches if match)
        return f"{counts.total() / len(agents):.2f}", str(max(counts.values()))


def main() -> int:
    """Measure each kind, print the table and return the exit status."""
    arguments = parse_arguments()
    home = HOMES / f"callbacks-{arguments.database}"
    dags, resumes = home / "dags", home / "resumes"
    dags.mkdir(parents=True, exist_ok=True)
    (dags / "agents.py").write_text(build_dags(arguments.seconds))
    with ExitStack() as stack:
        database_url = stack.enter_context(database.run_database(arguments.database))
        sandbox = stack.enter_context(Sandbox())
        environment = {
            **DEFAULTS,
            **sandbox.connection_variables(),
            "PYTHONPATH": str(ROOT),
            "RESUMES": str(resumes),
        }
        log_progress("Starting Airflow (about 30 s) ...")
        airflow = AirflowCluster(
            home / "airflow", dags_folder=dags, environment=environment, database_url=database_url
        )
        cluster = stack.enter_context(airflow)
        cluster.wait_for_dags(TITLES)
        measurement = Measurement(cluster, sandbox, resumes, arguments)
        rows = [measurement.measure(kind) for kind in arguments.kinds]
    title = f"Agents that work for {arguments.seconds:g} s, one every {arguments.every:g} s"
    print()
    print_table(f"{title}, {database.DATABASES[arguments.database]}", HEADINGS, rows)
    return 0 if all(row[1] == arguments.tasks for row in rows) else 1


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = build_parser("lab.benchmarks.measure_callbacks", __doc__)
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"of {', '.join(TITLES)}; default all of them"
    )
    parser.add_argument("--tasks", type=int, default=100, help="agent tasks of each kind; default 100")
    parser.add_argument("--seconds", type=float, default=60, help="seconds each agent works; default 60")
    parser.add_argument("--every", type=float, default=4, help="seconds between two starts; default 4")
    database.add_argument(parser)
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.kinds) - set(TITLES)):
        parser.error(f"no such kind: {', '.join(unknown)}")
    arguments.kinds = arguments.kinds or list(TITLES)
    return arguments


if __name__ == "__main__":
    run_command(main)
