"""What ``make demo`` and ``make up`` start: the sandbox, Airflow, and the connections between them."""

from __future__ import annotations

import sys
import time

from airflow_cluster import AirflowCluster, ClusterError
from folders import ANSWERS_NAME, EXAMPLE_DAGS
from processes import wait_until

from airflow_agent_tasks.sandbox import build_connection_variables

#: Each example file holds one DAG of the same name.
DAG_IDS = sorted(path.stem for path in EXAMPLE_DAGS.glob("*.py"))

_STARTED = time.monotonic()


def say(message: str) -> None:
    """Print a line with the seconds since the program's start, at once, also into a pipe."""
    print(f"[{time.monotonic() - _STARTED:5.1f} s] {message}", flush=True)


def start_all(cluster: AirflowCluster) -> None:
    """
    Start the sandbox and Airflow in a prepared cluster, and let the scheduler run the example DAGs.

    :raises ClusterError: Something did not start; the message holds the end of its log.
    """
    say("Starting the sandbox, which imitates Lightcone and Shinzo ...")
    sandbox_url = _start_sandbox(cluster)
    say(f"The sandbox answers at {sandbox_url}")
    cluster.environment |= build_connection_variables(sandbox_url)
    cluster.environment["COMPANY_RESEARCH_DB"] = str(cluster.home / ANSWERS_NAME)
    say("Starting Airflow: API server, scheduler, DAG processor, triggerer (about 30 s) ...")
    cluster.start()
    cluster.wait_for_dags(DAG_IDS)
    for dag_id in DAG_IDS:
        cluster.api.unpause(dag_id)
    say(f"Airflow is ready at {cluster.api.base_url}")


def _start_sandbox(cluster: AirflowCluster, timeout: float = 30.0) -> str:
    output = cluster.log_folder / "sandbox.out"
    command = [sys.executable, "-m", "airflow_agent_tasks.sandbox", "--port", "0"]
    sandbox = cluster.start_program("sandbox", command, output_path=output)

    def said_or_ended() -> bool:
        return "\n" in output.read_text() or sandbox.exit_status is not None

    wait_until(said_or_ended, timeout=timeout)
    cluster.check_programs()
    lines = output.read_text().splitlines()
    if not lines:
        raise ClusterError(
            f"the sandbox did not print its address within {timeout:.0f} s, see {sandbox.log_path}"
        )
    return lines[0].strip()
