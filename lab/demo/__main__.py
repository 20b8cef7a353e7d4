"""
``make demo``: run six of the example DAGs in a real Airflow, with the sandbox.

Exits with 0 only if every run ended as ``lab/demo/expected_runs.py`` says.
"""

from __future__ import annotations

import sys
import textwrap

from lab.cluster.airflow_api import AirflowApi, AirflowApiError
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterError, ClusterTimeoutError
from lab.command_line import build_parser, log_progress, run_command
from lab.demo.expected_runs import EXPECTED_RUNS, LIVE, RESEARCH_ROWS, REVIEWER_REPLIES
from lab.demo.live_log import LiveLog
from lab.demo.report import (
    compare,
    print_artifacts,
    print_database,
    print_failures,
    print_questions,
    print_tasks,
    read_run,
)
from lab.demo.reviewer import Reviewer
from lab.demo.startup import RESEARCH_DATABASE, start_all
from lab.paths import EXAMPLE_DAGS, HOMES

#: Seconds for all runs together.
RUN_TIMEOUT = 180.0


def main() -> int:
    """Run the demo and return the exit status."""
    build_parser("lab.demo", __doc__).parse_args()
    cluster = AirflowCluster(HOMES / "run", dags_folder=EXAMPLE_DAGS)
    try:
        cluster.prepare()
    except ClusterError as error:
        print(f"The demo did not start: {error}", file=sys.stderr)
        return 1
    try:
        start_all(cluster)
        problems = run_all(cluster)
    except (ClusterError, AirflowApiError) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        problems = ["interrupted"]
    finally:
        log_progress("Stopping Airflow and the sandbox ...")
        cluster.stop()
    if problems:
        print("\nThe demo FAILED:")
        print(textwrap.indent("\n".join(problems), "  "))
        print(f"Logs: {cluster.log_folder} (components), {cluster.home / 'logs'} (tasks)")
        return 1
    log_progress("Every run ended as expected.")
    return 0


def run_all(cluster: AirflowCluster) -> list[str]:
    """Run all DAGs at the same time, print their results, and return a line per unexpected result."""
    runs = {dag_id: cluster.api.trigger(dag_id) for dag_id in EXPECTED_RUNS}
    log_progress(f"Started {', '.join(runs)}")
    reviewer = Reviewer(cluster.api, REVIEWER_REPLIES)
    live_log = LiveLog(AirflowApi(cluster.api.base_url), LIVE, runs[LIVE.dag_id])
    problems = []
    try:
        with live_log:
            cluster.wait_for_runs(
                runs,
                timeout=RUN_TIMEOUT,
                on_end=lambda dag_id, state: log_progress(f"{dag_id} ended: {state}"),
                on_poll=reviewer.answer_open_questions,
            )
    except ClusterTimeoutError as error:
        problems.append(str(error))
    finished = [read_run(cluster.api, dag_id, run_id) for dag_id, run_id in runs.items()]
    print()
    print_tasks(finished)
    print("\nThe agents' questions and the answers:")
    print_questions(finished)
    print("\nThe files that the agents made:")
    print_artifacts(finished)
    print_failures(cluster.api, finished)
    print("\nThe rows that company_research wrote:")
    rows = print_database(cluster.home / RESEARCH_DATABASE)
    print()
    problems += [line for run in finished for line in compare(EXPECTED_RUNS[run.dag_id], run)]
    problems += live_log.check()
    if rows != RESEARCH_ROWS:
        problems.append(
            f"company_research: expected {RESEARCH_ROWS} rows in {RESEARCH_DATABASE}, found {rows}"
        )
    return problems


if __name__ == "__main__":
    run_command(main)
