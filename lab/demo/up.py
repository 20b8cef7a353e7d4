"""``make up``: start the sandbox and Airflow with the example DAGs, and leave them running."""

from __future__ import annotations

import sys

from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterError
from lab.cluster.state_file import read_cluster_state
from lab.command_line import build_parser, log_progress, run_command
from lab.demo.down import UP_HOME
from lab.demo.startup import start_all
from lab.paths import EXAMPLE_DAGS

HOW_TO_STOP = "`make down` stops everything."


def main() -> int:
    """Start the demo unless it is already running, and return the exit status."""
    build_parser("lab.demo.up", __doc__).parse_args()
    state = read_cluster_state(UP_HOME)
    if state is not None and state.is_in_use:
        print(f"Already running: {state.url or 'still starting'}\n{HOW_TO_STOP}")
        return 0
    cluster = AirflowCluster(UP_HOME, dags_folder=EXAMPLE_DAGS)
    try:
        cluster.prepare()
        start_all(cluster)
        cluster.leave_running()
    except (ClusterError, KeyboardInterrupt) as error:
        log_progress("Stopping everything that was started ...")
        cluster.stop()
        print(
            f"The demo did not start: {error or 'interrupted'}\nThe logs are in {cluster.log_folder}",
            file=sys.stderr,
        )
        return 1
    print(f"\nThe Airflow UI: {cluster.api.base_url} (no password; this machine only)")
    print(f"Trigger any of the DAGs there; supplier_check asks you: {cluster.api.base_url}/required_actions")
    print(f"The logs are in {cluster.log_folder}")
    print(f"Airflow and the sandbox keep running in the background. {HOW_TO_STOP}")
    return 0


if __name__ == "__main__":
    run_command(main)
