"""
``make faults``: run every fault that an agent task must survive, with real processes, several times.

Prints a table, and exits with 0 only if every case ended as expected in every round.
"""

from __future__ import annotations

import argparse
import textwrap

from lab.cluster.airflow_api import AirflowApiError
from lab.cluster.cluster_programs import ClusterError
from lab.cluster.postgresql import PostgresqlError, create_database, run_postgresql
from lab.command_line import build_parser, log_progress, run_command
from lab.faults.case_definition import Case
from lab.faults.case_run import Outcome
from lab.faults.cases import CASES, OUR_CASES
from lab.faults.results_table import print_results_table
from lab.faults.round import run_round
from lab.paths import HOMES
from lab.peer_providers import require_peers


def main() -> int:
    """Start what the rounds need, run them, and return the exit status."""
    arguments = parse_arguments()
    if arguments.peers:
        require_peers()
    if arguments.database == "sqlite":
        return run_rounds(arguments)
    try:
        with run_postgresql() as server_url:
            return run_rounds(arguments, server_url)
    except PostgresqlError as error:
        raise SystemExit(str(error)) from error


def run_rounds(arguments: argparse.Namespace, server_url: str | None = None) -> int:
    """
    Run the rounds, print the table and return the exit status.

    :param server_url: A PostgreSQL server, where every round gets its own database; default SQLite.
    """
    cases = select_cases(arguments)
    outcomes: dict[str, list[Outcome]] = {case.name: [] for case in cases}
    problems: list[str] = []
    for number in range(1, arguments.runs + 1):
        log_progress(f"Round {number} of {arguments.runs}: starting Airflow (about 30 s) ...")
        database_url = create_database(server_url) if server_url else None
        try:
            of_round = run_round(HOMES / "faults", cases, database_url=database_url)
        except (ClusterError, AirflowApiError) as error:
            problems.append(f"round {number}: {error}")
            continue
        for case in cases:
            outcomes[case.name].append(of_round[case.name])
            if not case.is_comparison:
                found = of_round[case.name].problems
                problems += [f"{case.name}, round {number}: {problem}" for problem in found]
    print()
    print_results_table(cases, outcomes)
    if problems:
        print("\nNot as expected:")
        print(textwrap.indent("\n".join(problems), "  "))
        return 1
    return 0


def select_cases(arguments: argparse.Namespace) -> list[Case]:
    """Return the cases that the command line names."""
    offered = CASES if arguments.peers else OUR_CASES
    if arguments.only is None:
        return offered
    names = arguments.only.split(",")
    return [case for case in offered if case.name in names]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = build_parser("lab.faults", __doc__)
    parser.add_argument("--runs", type=int, default=5, help="number of rounds; default 5")
    parser.add_argument("--only", metavar="CASE,CASE", help="run only these cases; default all")
    parser.add_argument(
        "--peers", action="store_true", help="also run other providers' cases, for comparison"
    )
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql"), default="sqlite", help="default sqlite"
    )
    arguments = parser.parse_args()
    known = [case.name for case in CASES]
    unknown = [name for name in (arguments.only or known[0]).split(",") if name not in known]
    if unknown:
        parser.error(f"unknown case: {', '.join(unknown)}. The cases: {', '.join(known)}")
    if arguments.runs < 1:
        parser.error(f"--runs is {arguments.runs}; the minimum is 1")
    return arguments


if __name__ == "__main__":
    run_command(main)
