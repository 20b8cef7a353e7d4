"""Tables in the formats of Airflow's own commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def print_rows(rows: Sequence[Mapping[str, Any]], output: str) -> None:
    """
    Print rows with the same keys.

    :param rows: The rows; the keys are the columns' names. In a table, values are shown as text.
    :param output: One of Airflow's formats: ``table``, ``plain``, ``json`` or ``yaml``.
    """
    try:
        from airflow.cli.simple_table import AirflowConsole
        from rich.markup import escape
    except ImportError:  # doctor must also work with an Airflow in which this has moved
        print(json.dumps(list(rows), indent=2))
        return
    shown: list[Any] = list(rows)
    if output in ("table", "plain"):
        shown = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    if output == "table":  # or "[api] secret_key" would lose its first word
        shown = [{key: escape(value) for key, value in row.items()} for row in shown]
    AirflowConsole().print_as(shown, output)
