"""
Measures how long importing our operators takes in a DAG file, compared with an operator that does nothing.

Each run is a new process that has already imported ``airflow.sdk``. The two alternate.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from lab.command_line import build_parser, run_command

#: Milliseconds that the import may cost beyond an empty operator.
LIMIT = 60.0
EMPTY = """
class EmptyOperator(BaseOperator):
    def execute(self, context):
        pass
"""
OURS = """
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
"""
PROGRAM = """
import time
from airflow.sdk import BaseOperator

begun_at = time.perf_counter()
{body}
print((time.perf_counter() - begun_at) * 1000)
"""


def main() -> int:
    """Print the table; return 1 if the median is above the limit."""
    parser = build_parser("lab.benchmarks.measure_imports", __doc__)
    parser.add_argument("--runs", type=int, default=5, help="processes for each of the two (default 5)")
    runs = range(parser.parse_args().runs)
    measure(OURS)  # writes the compiled modules
    pairs = [(measure(EMPTY), measure(OURS)) for _ in runs]
    costs = [ours - empty for empty, ours in pairs]
    print("| run | empty operator, ms | LightconeTaskOperator, ms | more, ms |\n| --- | --- | --- | --- |")
    for number, ((empty, ours), cost) in enumerate(zip(pairs, costs, strict=True), 1):
        print(f"| {number} | {empty:.1f} | {ours:.1f} | {cost:.1f} |")
    median = statistics.median(costs)
    print(f"Median: {median:.1f} ms more, at most {LIMIT:g} allowed.")
    return int(median > LIMIT)


def measure(body: str) -> float:
    """Return the milliseconds that a new process needs for this part of a DAG file."""
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(result.stdout.split()[-1])


if __name__ == "__main__":
    run_command(main)
