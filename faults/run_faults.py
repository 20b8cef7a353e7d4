"""
``make faults``: every fault that an agent task has to survive, with real processes, several times.

Exits with 0 only if every case came out as expected in every run.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

# The Airflow that the cases run in is the demo's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

from airflow_api import AirflowApiError
from airflow_cluster import ClusterError
from airflow_run import Outcome
from case import Case, Scenario
from component_cases import COMPONENT_SCENARIOS
from demo_setup import say
from fault_round import Round
from fault_table import print_fault_table
from processes import raise_on_termination
from question_cases import QUESTION_SCENARIOS
from service_cases import SERVICE_SCENARIOS
from user_cases import LIMIT_SCENARIOS, USER_SCENARIOS
from worker_cases import WORKER_SCENARIOS

#: The longest first: they are what the others go on beside.
TOGETHER = (*SERVICE_SCENARIOS, *LIMIT_SCENARIOS, *QUESTION_SCENARIOS, *WORKER_SCENARIOS, *USER_SCENARIOS)
ALONE = COMPONENT_SCENARIOS
CASES = [case for scenario in (*TOGETHER, *ALONE) for case in scenario.cases]
OUR_CASES = [case for case in CASES if not case.is_comparison]
HOME = Path(__file__).resolve().parents[1] / ".demo" / "faults"


def main() -> int:
    """Run the rounds, print the table and return the exit status."""
    arguments = read_arguments()
    raise_on_termination()
    cases = select_cases(arguments)
    outcomes: dict[str, list[Outcome]] = {case.name: [] for case in cases}
    problems: list[str] = []
    for number in range(1, arguments.runs + 1):
        say(f"Round {number} of {arguments.runs}: starting Airflow (about 30 s) ...")
        try:
            of_round = perform_round(HOME, cases)
        except (ClusterError, AirflowApiError, FileNotFoundError) as error:
            problems.append(f"round {number}: {error}")
            continue
        for case in cases:
            outcomes[case.name].append(of_round[case.name])
            if not case.is_comparison:
                found = of_round[case.name].problems
                problems += [f"{case.name}, round {number}: {problem}" for problem in found]
    print()
    print_fault_table(cases, outcomes)
    if problems:
        print("\nNot as expected:")
        print(textwrap.indent("\n".join(problems), "  "))
        return 1
    return 0


def perform_round(home: Path, cases: Sequence[Case]) -> dict[str, Outcome]:
    """Let these cases happen once, in a fresh Airflow, and return the outcomes by name."""
    return Round(home, say).perform(keep_cases(TOGETHER, cases), keep_cases(ALONE, cases))


def keep_cases(scenarios: Sequence[Scenario], cases: Sequence[Case]) -> list[Scenario]:
    """Return the scenarios of some cases: whole, but for the peers that are not asked for."""
    kept = []
    for scenario in scenarios:
        if any(case in cases for case in scenario.cases):
            members = tuple(case for case in scenario.cases if case in cases or not case.is_comparison)
            kept.append(Scenario(scenario.drive, members))
    return kept


def select_cases(arguments: argparse.Namespace) -> list[Case]:
    """Return the cases that the command line names."""
    offered = CASES if arguments.peers else OUR_CASES
    if arguments.only is None:
        return offered
    names = arguments.only.split(",")
    return [case for case in offered if case.name in names]


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run every fault case and print the table.")
    parser.add_argument("--runs", type=int, default=5, help="how often every case happens; default 5")
    parser.add_argument("--only", help="the names of some cases, with commas between them; default all")
    parser.add_argument("--peers", action="store_true", help="show the rows of other providers beside ours")
    arguments = parser.parse_args()
    known = [case.name for case in CASES]
    unknown = [name for name in (arguments.only or known[0]).split(",") if name not in known]
    if unknown:
        parser.error(f"no case is called {', '.join(unknown)}. The cases: {', '.join(known)}")
    if arguments.runs < 1:
        parser.error(f"--runs is {arguments.runs}; it begins at 1")
    return arguments


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # The clusters have been stopped on the way here.
        sys.exit(130)
