"""``make down``: stop what ``make up`` left running."""

from __future__ import annotations

import sys

from lab.cluster.state_file import STATE_NAME, read_cluster_state
from lab.command_line import build_parser, run_command
from lab.paths import HOMES

UP_HOME = HOMES / "up"


def main() -> int:
    """Stop the programs, if any, and return the exit status."""
    build_parser("lab.demo.down", __doc__).parse_args()
    state = read_cluster_state(UP_HOME)
    if state is None or not state.is_running:
        print("Nothing is running.")
        return 0
    print("Stopping Airflow and the sandbox ...", flush=True)
    state.end_programs()
    if state.is_running:
        print(f"Some programs are still running: see {UP_HOME / STATE_NAME}", file=sys.stderr)
        return 1
    print("Stopped.")
    return 0


if __name__ == "__main__":
    run_command(main)
