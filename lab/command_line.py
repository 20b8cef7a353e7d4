"""
Shared by the lab's commands: usage, progress lines, tables, exit status.

Imports only the standard library: ``make down`` works without ``.venv``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lab.cluster.processes import raise_on_termination

_STARTED_AT = time.monotonic()


def build_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for ``python -m module``; ``--help`` prints the description, a docstring, unchanged."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=(description or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run_command(main: Callable[[], int]) -> NoReturn:
    """Exit with the status of ``main``; SIGINT and SIGTERM end its ``with`` blocks and exit with 130."""
    raise_on_termination()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


def log_progress(message: str) -> None:
    """Print a line with the seconds since the command started; flushed at once, even into a pipe."""
    print(f"[{time.monotonic() - _STARTED_AT:5.1f} s] {message}", flush=True)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, limit: int = 60) -> None:
    """Print aligned columns; longer cells are cut to ``limit`` characters, and None prints as "-"."""
    texts = [[_shorten(value, limit) for value in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headings), *texts]) for column in range(len(headings))]
    for line in [list(headings), ["-" * width for width in widths], *texts]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _shorten(value: Any, limit: int) -> str:
    text = "-" if value is None else " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
