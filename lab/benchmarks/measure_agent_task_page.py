"""Measures how long the page "Agent tasks" waits for its rows, with few and with many agent tasks."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import requests

from lab.benchmarks.database import DATABASES, add_argument, run_database
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.percentile import percentile
from lab.cluster.airflow_cluster import AirflowCluster
from lab.command_line import build_parser, log_progress, run_command
from lab.paths import HOMES

DAG_SOURCE = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

for number in range(5):
    with DAG(f"research_{number}", schedule=None):
        EmptyOperator.partial(task_id="agent").expand(doc=[str(one) for one in range({count})])
"""
DAG_IDS = [f"research_{number}" for number in range(5)]
#: What a user looks at, and the request for it.
VIEWS: dict[str, dict[str, Any]] = {
    "first page": {},
    "last page": {"offset": -50},
    "running agents": {"agent_state": "running"},
    "not finished": {"open": True},
    "search for an agent task": {"text": "tsk_000007"},
    "one DAG": {"dag_id": "research_3"},
}
REQUESTS = 40


def measure(database: str, count: int) -> list[list[str]]:
    """Return a row of the table for each view, with ``count`` agent tasks in each of five DAGs."""
    home = HOMES / "measure-agent-task-page"
    dags_folder = home.with_name(f"{home.name}-dags")
    dags_folder.mkdir(parents=True, exist_ok=True)
    (dags_folder / "research.py").write_text(DAG_SOURCE.replace("{count}", str(count)))
    settings = {"AIRFLOW__CORE__MAX_MAP_LENGTH": "100000"}
    with (
        run_database(database) as url,
        AirflowCluster(home, dags_folder=dags_folder, environment=settings, database_url=url) as cluster,
    ):
        cluster.wait_for_dags(DAG_IDS)
        for dag_id in DAG_IDS:
            cluster.api.trigger(dag_id)  # paused: the tasks get rows, and nothing runs them
        command = [cluster.python, "-m", "lab.benchmarks.fill_submissions", *DAG_IDS]
        subprocess.run(command, env=cluster.environment, check=True, capture_output=True)  # noqa: S603
        token = cluster.api.request_token()
        total = 5 * count
        return [
            [DATABASES[database], f"{total:,}", name, *_time(cluster.url, token, filters, total)]
            for name, filters in VIEWS.items()
        ]


def _time(url: str, token: str, filters: dict[str, Any], total: int) -> list[str]:
    offset = max(0, total + filters["offset"]) if "offset" in filters else 0
    seconds = []
    with requests.Session() as session:
        session.headers["authorization"] = f"Bearer {token}"
        for _ in range(REQUESTS):
            began_at = time.perf_counter()
            response = session.get(
                f"{url}/agent-tasks/page/agent-tasks", params={**filters, "offset": offset}, timeout=60
            )
            seconds.append(time.perf_counter() - began_at)
            response.raise_for_status()
    found = response.json()
    times = [f"{1000 * percentile(seconds, share):.0f}" for share in (0.5, 0.99)]
    return [str(len(found["agent_tasks"])), str(found["total"]), *times]


def main() -> int:
    """Print the table and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_agent_task_page", __doc__)
    add_argument(parser)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 4_000], help="tasks of each of 5 DAGs")
    given = parser.parse_args()
    rows = []
    for count in given.counts:
        log_progress(f"Measuring with {5 * count:,} agent tasks on {DATABASES[given.database]} ...")
        rows += measure(given.database, count)
    header = ["database", "agent tasks", "view", "rows", "found", "ms p50", "ms p99"]
    print_table("The page with all agent tasks", header, rows)
    return 0


if __name__ == "__main__":
    run_command(main)
