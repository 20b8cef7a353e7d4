"""A finding of ``doctor``: one row of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """
    One row.

    :param check: What was checked.
    :param verdict: ``failed`` if agent tasks will not work as documented.
    :param details: The result of the check.
    :param remedy: How to fix it; empty if it is ok.
    """

    check: str
    verdict: Literal["ok", "warning", "failed"]
    details: str
    remedy: str = ""


def split_message(message: str) -> tuple[str, str]:
    """Split an error message of this package into what happened and what to do."""
    # A reason in parentheses may contain sentences too.
    end = "). " if "). " in message else ". "
    happened, found, remedy = message.partition(end)
    return f"{happened}{found.rstrip()}", remedy
