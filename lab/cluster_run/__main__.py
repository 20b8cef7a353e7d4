"""
``make cluster``: run agent tasks on an Airflow with two of each component, and kill one of each meanwhile.

PostgreSQL, Redis, two API servers behind nginx, two schedulers, a DAG processor, two triggerers and two
Celery workers run on this machine; the service is the sandbox, in a process of its own. First, without kills,
agent tasks and tasks that only sleep take turns: the tables show what each costs. Then two mapped DAGs run in
which agents fail, ask and take long, under one limit, while components are killed and the service fails: the
last table shows what became of the agents. Exits with 0 only if none was started twice, left running or lost,
or ended other than planned, the limit held, and all kills and outages were over before the last task ended;
with 2 if a part is not installed.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from lab.benchmarks.airflow_defaults import DEFAULTS
from lab.cluster.airflow_api import AirflowApiError
from lab.cluster.airflow_environment import QUICK_RECOVERY
from lab.cluster.celery_cluster import CeleryCluster, list_lacks
from lab.cluster.cluster_programs import ClusterError
from lab.cluster.postgresql import PostgresqlError, create_database, run_postgresql
from lab.cluster_run.airflow_rows import AirflowRows
from lab.cluster_run.cost import Cost, Meter
from lab.cluster_run.dags import (
    AGENT_DAG,
    KILLED_DAGS,
    LIMITED,
    SLEEP_DAG,
    build_agent_dag,
    build_sleep_dag,
    write_dags,
)
from lab.cluster_run.disturbances import DISTURBANCES, count_failures
from lab.cluster_run.killed_run import KilledRun
from lab.cluster_run.plan import ORDINARY, SERVICES, plan_tasks, split_plan
from lab.cluster_run.report import print_cost, print_verdict
from lab.cluster_run.service import Service
from lab.cluster_run.verdict import Bounds, judge
from lab.command_line import build_parser, log_progress, run_command
from lab.paths import HOMES

SETTINGS = {
    **DEFAULTS,
    **QUICK_RECOVERY,
    # Airflow's own default, which counts for each scheduler.
    "AIRFLOW__CORE__PARALLELISM": "32",
    # A task whose message died with its worker is queued again after this time; default 600 seconds.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
}
#: The tasks that a worker runs at once. An execution needs less than a second of a processor, but its
#: slot may be free only five seconds later.
CONCURRENCY = 8
#: How long each measured task waits, in seconds.
MEASURED_SECONDS = 10.0


def main() -> int:
    """Start the cluster, run both parts, print the tables and return the exit status."""
    arguments = parse_arguments()
    if lacks := list_lacks():
        print("\n".join(lacks), file=sys.stderr)
        return 2
    try:
        with ExitStack() as stack:
            return ClusterRun(arguments, stack).run()
    except (ClusterError, AirflowApiError, PostgresqlError) as error:
        print(f"The run did not end: {error}", file=sys.stderr)
        return 1


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = build_parser("lab.cluster_run", __doc__)
    parser.add_argument(
        "--tasks", type=int, default=1000, help="agent tasks with kills, 0 for none; default 1000"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="duration of an ordinary agent of these; default 60"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=50,
        help="agents of these that may work at once, half of them for each service; default 50",
    )
    parser.add_argument(
        "--measured", type=int, default=60, help="tasks per measured round, 0 for none; default 60"
    )
    parser.add_argument("--rounds", type=int, default=2, help="measured rounds of each kind; default 2")
    parser.add_argument(
        "--heartbeat-interval",
        type=float,
        default=5.0,
        help="[workers] min_heartbeat_interval in seconds; default 5, as in Airflow",
    )
    return parser.parse_args()


class ClusterRun:
    """
    Both parts of the run in one cluster.

    :param arguments: The arguments of the command line.
    :param stack: Ends what is started.
    """

    def __init__(self, arguments: argparse.Namespace, stack: ExitStack) -> None:
        self._arguments = arguments
        self._plan = plan_tasks(arguments.tasks, arguments.seconds)
        self._parts = split_plan(self._plan, len(KILLED_DAGS))
        #: For each service, which has a connection of its own.
        self._limit = arguments.limit // len(SERVICES)
        self._measured = plan_tasks(arguments.measured, MEASURED_SECONDS, [ORDINARY])
        home = HOMES / "cluster"
        sources = {
            **{
                dag_id: build_agent_dag(dag_id, part, LIMITED)
                for dag_id, part in zip(KILLED_DAGS, self._parts, strict=True)
            },
            AGENT_DAG: build_agent_dag(AGENT_DAG, self._measured),
            SLEEP_DAG: build_sleep_dag(SLEEP_DAG, self._measured),
        }
        write_dags(home / "dags", sources)
        self._service = Service(self._limit)
        self._cluster = CeleryCluster(
            home / "airflow",
            dags_folder=home / "dags",
            environment={
                **SETTINGS,
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": f"{arguments.heartbeat_interval:g}",
                **self._service.connections,
            },
            database_url=create_database(stack.enter_context(run_postgresql())),
            concurrency=CONCURRENCY,
        )
        self._cluster.prepare()
        stack.callback(self._cluster.stop)
        log_progress("Starting Airflow (about a minute) ...")
        self._service.start(self._cluster)
        self._cluster.start()
        self._cluster.wait_for_dags(sources)
        self._rows = AirflowRows(self._cluster.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])

    def run(self) -> int:
        """Run both parts, and return the exit status."""
        is_right = True
        if self._measured:
            is_right &= self._measure()
        if self._plan:
            is_right &= self._kill()
        return 0 if is_right else 1

    def _measure(self) -> bool:
        meter = Meter(self._cluster, self._service, self._rows)
        agents, sleepers = Cost(), Cost()
        count, verdicts = len(self._measured), []
        # What each process does only once, such as filling its caches, is done before.
        for dag_id in (SLEEP_DAG, AGENT_DAG):
            meter.measure(dag_id, count, Cost())
        self._service.forget()
        for _ in range(self._arguments.rounds):
            meter.measure(SLEEP_DAG, count, sleepers)
            run_id = meter.measure(AGENT_DAG, count, agents)
            tasks = self._rows.list_tasks(AGENT_DAG, run_id, with_xcoms=True)
            agents_of_round, requests = self._service.list_agents(), self._service.count_requests()
            verdicts.append(judge(self._measured, agents_of_round, tasks, requests, Bounds()))
            self._service.forget()
        print()
        print_cost(agents, sleepers, self._arguments.heartbeat_interval)
        for number, verdict in enumerate(verdicts, 1):
            print_verdict(f"Measured round {number}, without kills", count, verdict)
        return all(verdict.is_right for verdict in verdicts)

    def _kill(self) -> bool:
        log_progress(f"Running {len(self._plan)} agent tasks, while components are killed ...")
        run = KilledRun(self._cluster, self._service, self._rows, self._parts)
        tasks = run.run()
        bounds = Bounds(
            limit=self._limit,
            uncertain=CONCURRENCY,  # the starts of a worker that is killed
            disturbances=len(DISTURBANCES),
            failures=count_failures(),
        )
        agents, requests = self._service.list_agents(), self._service.count_requests()
        verdict = judge(self._plan, agents, tasks, requests, bounds, disturbances=run.disturbances)
        print()
        title = "While one of each component was killed, and the service failed"
        print_verdict(title, len(self._plan), verdict)
        return verdict.is_right


if __name__ == "__main__":
    run_command(main)
