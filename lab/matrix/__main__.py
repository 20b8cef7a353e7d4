"""
``make matrix``: run the rings of tests on each supported version of Airflow, Python and database.

Creates a virtual environment in ``.matrix`` for each pair of versions, prints a table, and exits with 0 only
if at least one cell passed and none failed. Reasons for cells that are not run are below the table. All cells
take hours; use the options, which take lists, to run some.
"""

from __future__ import annotations

import argparse
import shutil
from itertools import product

from lab.cluster import postgresql
from lab.command_line import build_parser, log_progress, run_command
from lab.matrix.cells import DATABASES, POSTGRESQL, Cell, explain_skip
from lab.matrix.environments import FOLDER, InstallationError, PythonUnavailableError, make_environment
from lab.matrix.results_table import print_results_table
from lab.matrix.rings import RINGS, Result, run_ring
from lab.matrix.versions import list_airflow_versions, list_pythons


def main() -> int:
    """Run the cells, print the table and return the exit status."""
    arguments = parse_arguments()
    choices = (arguments.airflow, arguments.python, arguments.database, arguments.ring)
    results = {Cell(*values): Result("not run", "interrupted") for values in product(*choices)}
    (FOLDER / "logs").mkdir(parents=True, exist_ok=True)
    try:
        for cell in results:
            results[cell] = run_cell(cell)
    finally:
        print()
        print_results_table(results)
    verdicts = {result.verdict for result in results.values()}
    return int("FAILED" in verdicts or "passed" not in verdicts)


def run_cell(cell: Cell) -> Result:
    """Run one cell in its environment, unless it is skipped."""
    if reason := explain_skip(cell) or explain_lack(cell):
        return Result("not run", reason)
    log_path = FOLDER / "logs" / f"{cell.airflow}-py{cell.python}-{cell.database}-{cell.ring}.log"
    try:
        python = make_environment(cell.airflow, cell.python)
        log_progress(f"{cell}: running, log {log_path}")
        result = run_ring(cell.ring, python, cell.database, log_path)
    except PythonUnavailableError as error:
        return Result("not run", str(error))
    except InstallationError as error:
        log_progress(f"{cell}: the installation failed:\n{error}")
        return Result("FAILED", "installation")
    log_progress(f"{cell}: {result}, {result.seconds:.0f} s")
    for failure in result.failures:
        print(f"\n{failure}")
    return result


def explain_lack(cell: Cell) -> str | None:
    """Return what this machine lacks for a cell, or None if it lacks nothing."""
    if cell.database == POSTGRESQL and (lack := postgresql.explain_lack()):
        return lack
    if cell.ring == "processes" and shutil.which("chromium") is None:
        return "Chromium is not installed"
    return None


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; each list keeps the order of the available values."""
    parser = build_parser("lab.matrix", __doc__)
    offers = {
        "airflow": list_airflow_versions(),
        "python": list_pythons(),
        "database": list(DATABASES),
        "ring": list(RINGS),
    }
    for name, offered in offers.items():
        help_text = "default %(default)s" + ("; or newest" if name == "airflow" else "")
        parser.add_argument(f"--{name}", metavar="A,B", default=",".join(offered), help=help_text)
    arguments = parser.parse_args()
    arguments.airflow = arguments.airflow.replace("newest", offers["airflow"][-1])
    for name, offered in offers.items():
        wanted = getattr(arguments, name).split(",")
        if unknown := [value for value in wanted if value not in offered]:
            parser.error(f"--{name}: {', '.join(unknown)} is not one of {', '.join(offered)}")
        setattr(arguments, name, [value for value in offered if value in wanted])
    return arguments


if __name__ == "__main__":
    run_command(main)
