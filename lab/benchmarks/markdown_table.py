"""The tables of the benchmarks, as the documentation shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in Markdown."""
    print(f"### {title}\n")
    for row in (headings, ["---"] * len(headings), *rows):
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)
