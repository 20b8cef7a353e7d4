"""What a check of ``doctor`` found: one row of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """
    One row.

    :param check: What was checked.
    :param verdict: ``failed`` if agent tasks will not work as documented.
    :param details: What was found.
    :param remedy: What to do about it; empty if it is ok.
    """

    check: str
    verdict: Literal["ok", "warning", "failed"]
    details: str
    remedy: str = ""


def split_message(message: str) -> tuple[str, str]:
    """Return what happened, and what to do: the errors of this package say both, in this sequence."""
    # A reason in parentheses may consist of sentences, too.
    end = "). " if "). " in message else ". "
    happened, found, remedy = message.partition(end)
    return f"{happened}{found.rstrip()}", remedy
