"""
``make upgrade``: upgrade Airflow while agent tasks wait, with real processes, and check each of the tasks.

Starts the installed Airflow. Once all tasks wait, stops it, migrates its database to the newer Airflow, and
starts that one. Prints a table, and exits with 0 only if every task ended as expected.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from packaging.version import Version

from lab.cluster.airflow_api import AirflowApiError
from lab.cluster.airflow_environment import build_clean_environment
from lab.cluster.cluster_programs import ClusterError
from lab.cluster.installed_airflow import INSTALLED
from lab.command_line import build_parser, log_progress, run_command
from lab.faults.results_table import print_results_table
from lab.faults.round import Round
from lab.matrix.environments import InstallationError, PythonUnavailableError, make_environment
from lab.matrix.versions import MAIN_PYTHON, list_airflow_versions
from lab.paths import HOMES
from lab.upgrade.cases import build_scenarios


def main() -> int:
    """Rehearse the upgrade, print the table and return the exit status."""
    arguments = parse_arguments()
    try:
        python = arguments.to or make_environment(list_airflow_versions()[-1], MAIN_PYTHON)
    except (PythonUnavailableError, InstallationError) as error:
        raise SystemExit(f"the newer Airflow cannot be installed: {error}") from error
    newer = read_airflow_version(python)
    if newer <= INSTALLED:
        raise SystemExit(f"Airflow {newer} of {python} is not newer than {INSTALLED}, which runs this")
    log_progress(f"Airflow {INSTALLED} to {newer}: starting the older one (about 30 s) ...")
    scenarios = build_scenarios(python, newer)
    cases = [case for scenario in scenarios for case in scenario.cases]
    try:
        # All at the same time, because they wait for each other.
        outcomes = Round(HOMES / "upgrade").run(scenarios, (), max_cases=len(cases))
    except (ClusterError, AirflowApiError) as error:
        raise SystemExit(str(error)) from error
    print(f"\nAirflow {INSTALLED} to {newer}:")
    print_results_table(cases, {name: [outcome] for name, outcome in outcomes.items()})
    problems = [f"{name}: {problem}" for name, outcome in outcomes.items() for problem in outcome.problems]
    if problems:
        print("\nNot as expected:", *problems, sep="\n  ")
    return int(bool(problems))


def read_airflow_version(python: Path) -> Version:
    """Return the version of Airflow that is installed for a Python."""
    code = "from importlib.metadata import version; print(version('apache-airflow-core'))"
    command = [str(python), "-c", code]
    done = subprocess.run(  # noqa: S603
        command, env=build_clean_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{python} has no Airflow: {done.stderr.strip()}")
    return Version(done.stdout.strip())


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = build_parser("lab.upgrade", __doc__)
    parser.add_argument(
        "--to",
        type=lambda path: Path(path).absolute(),
        metavar="PYTHON",
        help="Python of an environment with the newer Airflow and this package; default: an environment in "
        ".matrix with the newest Airflow",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
