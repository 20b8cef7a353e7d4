"""``make up``: start the sandbox and Airflow, with the example DAGs, and leave them running."""

from __future__ import annotations

import sys

from airflow_cluster import AirflowCluster, ClusterError
from cluster_record import read_record
from demo_setup import say, start_all
from folders import EXAMPLE_DAGS, UP_HOME
from processes import raise_on_termination

HOW_TO_STOP = "`make down` stops it."


def main() -> int:
    """Start the demo unless it runs already, and return the exit status."""
    raise_on_termination()
    record = read_record(UP_HOME)
    if record is not None and record.is_in_use:
        print(f"It is running already: {record.url or 'still starting'}\n{HOW_TO_STOP}")
        return 0
    cluster = AirflowCluster(UP_HOME, dags_folder=EXAMPLE_DAGS)
    try:
        cluster.prepare()
        start_all(cluster)
        cluster.leave_running()
    except (ClusterError, KeyboardInterrupt) as error:
        say("Stopping what was started ...")
        cluster.stop()
        print(
            f"It did not start: {error or 'interrupted'}\nThe logs are in {cluster.log_folder}",
            file=sys.stderr,
        )
        return 1
    print(f"\nAirflow's page: {cluster.api.base_url} (no password; this machine only)")
    print(f"Trigger any of the DAGs there; supplier_check asks you: {cluster.api.base_url}/required_actions")
    print(f"The logs are in {cluster.log_folder}")
    print(f"It runs on in the background. {HOW_TO_STOP}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # A second Ctrl-C: what still ran has been killed by then.
        sys.exit(130)
