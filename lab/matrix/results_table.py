"""The table that ``make matrix`` prints: a row for each combination of versions, a column for each ring."""

from __future__ import annotations

import string
from collections.abc import Mapping

from lab.command_line import print_table
from lab.matrix.cells import Cell
from lab.matrix.rings import Result


def print_results_table(results: Mapping[Cell, Result]) -> None:
    """Print the results, and below the table the reasons for which cells were not run, each once."""
    rings = list(dict.fromkeys(cell.ring for cell in results))
    rows = dict.fromkeys((cell.airflow, cell.python, cell.database) for cell in results)
    marks: dict[str, str] = {}
    for result in results.values():
        if result.verdict == "not run":
            marks.setdefault(result.detail, string.ascii_lowercase[len(marks)])
    texts = {
        cell: f"[{marks[result.detail]}]" if result.detail in marks else str(result)
        for cell, result in results.items()
    }
    table = [[*row, *(texts[Cell(*row, ring)] for ring in rings)] for row in rows]
    print_table(["Airflow", "Python", "database", *rings], table)
    for reason, mark in marks.items():
        print(f"[{mark}] not run: {reason}")
