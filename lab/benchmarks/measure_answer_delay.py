"""
``make answers``: answer 200 questions the moment they appear, in several Airflows, and print a table.

An answer that reaches Airflow before the scheduler has seen the worker's exit fails its task, so the plugin
delays it. The table shows how long, and how many tasks failed anyway. Exits with 0 only if a setup ran and no
task failed. Takes about five minutes per row. A setup that cannot run on this machine is reported with the
reason: CeleryExecutor needs redis-server and `make celery`.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from airflow_agent_tasks.sandbox.server import Sandbox
from lab.benchmarks.airflow_defaults import DEFAULTS
from lab.benchmarks.quick_answers import DAG_ID, Respondent, Results, build_dag
from lab.cluster import celery, postgresql
from lab.cluster.airflow_api import AirflowApiError
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.airflow_environment import QUICK_RECOVERY
from lab.cluster.cluster_programs import ClusterError, ClusterTimeoutError
from lab.cluster.component_commands import CELERY_WORKER
from lab.cluster.postgresql import PostgresqlError, create_database, run_postgresql
from lab.cluster.processes import Program, wait_until
from lab.command_line import build_parser, log_progress, print_table, run_command
from lab.paths import HOMES

#: A plugin for the measured Airflow that turns the delay off.
WITHOUT_DELAY = """
from airflow_agent_tasks.airflow_compat import early_answer_delay

early_answer_delay.accepts_early_resumes = lambda: True
"""
HEADINGS = ("setup", "answers", "failed", "seconds min / p50 / p99 / max", "run")
STARTUP_TIMEOUT = 300.0


@dataclass(frozen=True)
class Setup:
    """
    An Airflow to answer in.

    :param name: Its name on the command line.
    :param is_celery: True for CeleryExecutor with a worker, False for LocalExecutor.
    :param is_sqlite: True for SQLite, False for PostgreSQL.
    :param schedulers: The number of schedulers.
    :param kills_scheduler: True to kill the last one after a third of the answers.
    :param is_busy: True to run two programs per processor that only compute.
    """

    name: str
    is_celery: bool = False
    is_sqlite: bool = False
    schedulers: int = 1
    kills_scheduler: bool = False
    is_busy: bool = False


SETUPS = (
    Setup("local-sqlite", is_sqlite=True),
    Setup("local"),
    Setup("local-busy", is_busy=True),
    Setup("local-two-schedulers", schedulers=2),
    Setup("local-killed-scheduler", schedulers=2, kills_scheduler=True),
    Setup("celery", is_celery=True),
    Setup("celery-two-schedulers", is_celery=True, schedulers=2),
)


def main() -> int:
    """Measure each setup, print the table and return the exit status."""
    arguments = parse_arguments()
    chosen = [setup for setup in SETUPS if setup.name in arguments.setups]
    lacks = {setup.name: lack for setup in chosen if (lack := explain_lack(setup))}
    rows = [run_setup(setup, arguments) for setup in chosen if setup.name not in lacks]
    print()
    print_table(HEADINGS, [*rows, *((name, None, None, None, "not run") for name in lacks)])
    for name, lack in lacks.items():
        print(f"{name}: not run: {lack}")
    asked = arguments.tasks * arguments.questions
    return 0 if rows and all(row[1:3] == (asked, 0) for row in rows) else 1


def explain_lack(setup: Setup) -> str | None:
    """Return what this machine lacks for a setup, or None if it lacks nothing."""
    if setup.is_celery and (lacks := celery.list_lacks()):
        return " ".join(lacks)
    return None if setup.is_sqlite else postgresql.explain_lack()


def run_setup(setup: Setup, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Measure a setup and return its row of the table."""
    try:
        results = measure(setup, arguments)
    except (ClusterError, AirflowApiError, PostgresqlError) as error:
        print(f"{setup.name}: {error}", file=sys.stderr)
        return (setup.name, None, None, None, str(error))
    for rejection in results.errors:
        log_progress(f"{setup.name}: {rejection}")
    return (setup.name, len(results.delays), results.failed, results.describe_delays(), results.state)


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = build_parser("lab.benchmarks.measure_answer_delay", __doc__)
    parser.add_argument("setups", nargs="*", metavar="SETUP", help="of " + ", ".join(s.name for s in SETUPS))
    parser.add_argument("--tasks", type=int, default=20, help="number of concurrent agent tasks; default 20")
    parser.add_argument("--questions", type=int, default=10, help="questions per agent task; default 10")
    parser.add_argument(
        "--without-delay", action="store_true", help="pass each answer to Airflow without the delay"
    )
    arguments = parser.parse_args()
    names = [setup.name for setup in SETUPS]
    if unknown := set(arguments.setups) - set(names):
        parser.error(f"no such setup: {', '.join(sorted(unknown))}")
    arguments.setups = arguments.setups or names
    return arguments


def measure(setup: Setup, arguments: argparse.Namespace) -> Results:
    """Start an Airflow for one setup, answer all questions in it and return the results."""
    home = HOMES / "answers"
    for folder, name, source in (
        ("dags", DAG_ID, build_dag(arguments.tasks, arguments.questions)),
        ("plugins", "without_delay", WITHOUT_DELAY if arguments.without_delay else ""),
    ):
        (home / folder).mkdir(parents=True, exist_ok=True)
        (home / folder / f"{name}.py").write_text(source)
    environment = {**DEFAULTS, "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins")}
    if setup.kills_scheduler:
        environment |= QUICK_RECOVERY
    log_progress(f"{setup.name}: starting Airflow (about 30 s) ...")
    with ExitStack() as stack:
        database_url = None if setup.is_sqlite else create_database(stack.enter_context(run_postgresql()))
        environment |= stack.enter_context(Sandbox()).connection_variables()
        if setup.is_celery:
            environment |= celery.build_celery_settings(
                concurrency=int(DEFAULTS["AIRFLOW__CORE__PARALLELISM"])
            )
        cluster = AirflowCluster(
            home / "airflow",
            dags_folder=home / "dags",
            environment=environment,
            database_url=database_url,
            startup_timeout=STARTUP_TIMEOUT,
        )
        stack.enter_context(cluster)
        cluster.wait_for_dags([DAG_ID])
        start_more(cluster, setup)
        third = arguments.tasks * arguments.questions // 3
        return Respondent(cluster).run(lambda count: kill_scheduler(cluster, setup, count >= third))


def start_more(cluster: AirflowCluster, setup: Setup) -> None:
    """Start the programs of a setup other than the usual components."""
    if setup.is_celery:
        celery.start_redis(cluster)
        cluster.start_program("celery-worker", [sys.executable, "-m", "airflow", *CELERY_WORKER])
    for number in range(2 * (os.cpu_count() or 1) if setup.is_busy else 0):
        cluster.start_program(f"load-{number}", [sys.executable, "-c", "while True: pass"])
    for number in range(2, setup.schedulers + 1):
        scheduler = cluster.start_component("scheduler", name=f"scheduler-{number}")
        wait_for_scheduler(scheduler)


def wait_for_scheduler(scheduler: Program) -> None:
    """Wait until an additional scheduler runs; Airflow's health report covers only one."""

    def is_started() -> bool:
        return "Starting the scheduler" in scheduler.log_path.read_text(errors="replace")

    if not wait_until(is_started, timeout=STARTUP_TIMEOUT):
        raise ClusterTimeoutError(f"{scheduler.name} did not start. {scheduler.describe_log_end()}")


def kill_scheduler(cluster: AirflowCluster, setup: Setup, is_time: bool) -> None:
    """Kill the last scheduler once, with its workers."""
    name = f"scheduler-{setup.schedulers}"
    if setup.kills_scheduler and is_time and name in cluster.programs:
        cluster.stop_program(name, grace=0)
        log_progress(f"Killing {name}.")


if __name__ == "__main__":
    run_command(main)
