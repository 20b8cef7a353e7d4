"""
Lays out text for the body of a form: lines that fit the Airflow UI, in blocks where nothing is markup.

The UI gives all lines of a fenced block the same height, and wraps lines that are too long. Because the lines
are already wrapped here, their number determines the height of the form.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable

from airflow_agent_tasks.text import clean, shorten

#: Maximum number of characters of a text that are laid out.
MAX_SHOWN = 4_000
#: Characters that fit on a line in a window 1,280 pixels wide, or half as many wide characters.
LINE_LENGTH = 84
#: The column where the values begin; their labels are to the left of it.
INDENT = 16
SHORTENED = " … (shortened)"


def fence(lines: list[str]) -> str:
    """Return lines as a fenced block, or an empty string if there are none."""
    if not lines:
        return ""
    # Counted in the text that is shown: removing a character may have joined two runs of backticks.
    longest = max(len(run) for run in re.findall("`*", "\n".join(lines)))
    ticks = "`" * max(3, longest + 1)
    # Without a language, the Airflow UI shows a fenced block inline, on a single line.
    return "\n".join([f"{ticks}text", *lines, ticks])


def wrap_lines(text: str, most: int) -> list[str]:
    """
    Return untrusted text as lines that fit the form.

    :param most: Maximum number of lines; if the text has more, the last one ends with ``SHORTENED``.
    """
    shown = clean(text, MAX_SHOWN)
    lines = [piece for line in shown.split("\n") for piece in _wrap(line)] if shown.strip() else []
    if len(lines) > most or len(text) > MAX_SHOWN:
        *lines, last = lines[: max(1, most)] or [""]
        end = count_fitting(last, LINE_LENGTH - len(SHORTENED))
        lines.append(f"{last[:end].rstrip()}{SHORTENED}")
    return lines


def lay_out(name: str, value: str, *, most: int = 1) -> list[str]:
    """
    Return a value as lines, with its label to the left; no lines if the value is empty.

    :param name: The label.
    :param value: Untrusted text; its line breaks become spaces.
    :param most: Maximum number of lines.
    """
    shown = one_line(value, MAX_SHOWN)
    lines = textwrap.wrap(shown, count_fitting(shown, LINE_LENGTH - INDENT), max_lines=most, placeholder=" …")
    return [f"{name if number == 0 else '':{INDENT}}{line}" for number, line in enumerate(lines)]


def one_line(text: str, limit: int = 200) -> str:
    """Return untrusted text as one line of at most ``limit`` characters."""
    return shorten(" ".join(clean(text, limit * 2).split()), limit)


def link(url: str) -> str:
    """Return the target of a Markdown link."""
    # In angle brackets, because a run's id may contain parentheses.
    return f"<{re.sub('[<>]', '', url)}>"


def join_blocks(parts: Iterable[str]) -> str:
    """Return blocks and paragraphs as one Markdown text, without the empty ones."""
    return "\n\n".join(part for part in parts if part)


def count_fitting(text: str, columns: int) -> int:
    """Return how many characters of a text fit; East Asian characters are two columns wide."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return columns * len(text) // (len(text) + wide) if wide else columns


def _wrap(line: str) -> list[str]:
    width = count_fitting(line, LINE_LENGTH)
    return textwrap.wrap(line, width, replace_whitespace=False, break_on_hyphens=False) or [""]
