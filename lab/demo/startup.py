"""Starts what ``make demo`` and ``make up`` need: the sandbox, Airflow, and the connections between them."""

from __future__ import annotations

import json
import sys

from airflow_agent_tasks.sandbox import build_connection_variables
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterError
from lab.cluster.processes import wait_until
from lab.command_line import log_progress
from lab.paths import EXAMPLE_DAGS

#: Each example file contains one DAG of the same name.
DAG_IDS = sorted(path.stem for path in EXAMPLE_DAGS.glob("*.py"))
#: The SQLite file that company_research writes, within the cluster's home.
RESEARCH_DATABASE = "company_research.db"
#: The folder for the screenshots of shop_tour, within the cluster's home.
TOUR_FOLDER = "shop_tour"
#: The SQLite file of price_watch's connection, within the cluster's home.
PRICE_DATABASE = "price_watch.db"


def start_all(cluster: AirflowCluster) -> None:
    """
    Start the sandbox and Airflow in a prepared cluster, and unpause the example DAGs.

    :raises ClusterError: Something did not start; the message contains the end of its log.
    """
    log_progress("Starting the sandbox, the local mock of Lightcone and Shinzo ...")
    sandbox_url = _start_sandbox(cluster)
    log_progress(f"The sandbox listens on {sandbox_url}")
    cluster.environment |= build_connection_variables(sandbox_url)
    cluster.environment["COMPANY_RESEARCH_DB"] = str(cluster.home / RESEARCH_DATABASE)
    cluster.environment["SHOP_TOUR_FOLDER"] = str(cluster.home / TOUR_FOLDER)
    price_database = {"conn_type": "sqlite", "host": str(cluster.home / PRICE_DATABASE)}
    cluster.environment["AIRFLOW_CONN_PRICE_WATCH_DB"] = json.dumps(price_database)
    log_progress("Starting Airflow: API server, scheduler, DAG processor, triggerer (about 30 s) ...")
    cluster.start()
    cluster.wait_for_dags(DAG_IDS)
    for dag_id in DAG_IDS:
        cluster.api.unpause(dag_id)
    log_progress(f"Airflow is ready at {cluster.api.base_url}")


def _start_sandbox(cluster: AirflowCluster, timeout: float = 30.0) -> str:
    output = cluster.log_folder / "sandbox.out"
    command = [sys.executable, "-m", "airflow_agent_tasks.sandbox", "--port", "0"]
    sandbox = cluster.start_program("sandbox", command, output_path=output)

    def has_printed_or_exited() -> bool:
        return "\n" in output.read_text() or sandbox.exit_status is not None

    wait_until(has_printed_or_exited, timeout=timeout)
    cluster.check_programs()
    lines = output.read_text().splitlines()
    if not lines:
        raise ClusterError(
            f"the sandbox did not print its address within {timeout:.0f} s, see {sandbox.log_path}"
        )
    return lines[0].strip()
