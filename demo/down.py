"""``make down``: stop what ``make up`` left running."""

from __future__ import annotations

import sys

from cluster_record import read_record
from folders import UP_HOME


def main() -> int:
    """Stop the programs, if any, and return the exit status."""
    record = read_record(UP_HOME)
    if record is None or not record.is_running:
        print("Nothing is running.")
        return 0
    print("Stopping Airflow and the sandbox ...", flush=True)
    record.end_programs()
    if record.is_running:
        print(f"Some programs are still there: see {UP_HOME / 'cluster.json'}", file=sys.stderr)
        return 1
    print("Stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
