"""Makes untrusted text safe for messages, log lines and forms."""

from __future__ import annotations

import re
import unicodedata

#: Most of a text in several lines that a log keeps.
MAX_QUOTED = 4_000
MAX_QUOTED_LINES = 100

#: What begins a new line somewhere: in an editor, in a terminal, or for ``str.splitlines``.
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
#: Control characters, those that hide or reverse their neighbours, line ends, and lone surrogates, which
#: aiohttp leaves in headers: a log line with one cannot be written.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Joins letters in some scripts, and the parts of an emoji.
_JOINERS = "\u200c\u200d"
#: The Airflow UI folds the lines between these, wherever they stand in a line, and hides the second one.
_FOLD_MARKER = re.compile(r":(?=(?:end)?group:)", re.IGNORECASE)
_QUOTE_MARK = "  | "


def shorten(text: str, limit: int = 200) -> str:
    """
    Return untrusted text as one line for a message or the log.

    Control and invisible characters become spaces, and no part of it can fold lines of the log.

    :param text: The text.
    :param limit: The most characters to return; the last one is "…" where the text has more.
    """
    line = re.sub("\0+", " ", _replace_unsafe(text[: limit * 2], "\0")).strip()
    line = _break_fold_markers(line)
    return line if len(line) <= limit and len(text) <= limit * 2 else line[: limit - 1] + "…"


def clean(text: str, limit: int) -> str:
    """
    Return untrusted text without control and invisible characters; its line breaks are kept.

    :param text: The text.
    :param limit: The most characters to return.
    """
    text = _LINE_ENDS.sub("\n", text[: limit * 2]).expandtabs(4)
    return "\n".join(_replace_unsafe(line, "") for line in text.split("\n")).strip("\n")[:limit]


def quote_lines(text: str) -> str:
    """
    Return untrusted text for the log, each line behind a mark, so that none passes for a line of the log.

    :param text: The text; of more than ``MAX_QUOTED`` characters or ``MAX_QUOTED_LINES`` lines the rest is
        left out, and the last line says so.
    """
    lines = clean(text, MAX_QUOTED).split("\n")
    if len(lines) > MAX_QUOTED_LINES or len(text) > MAX_QUOTED:
        lines = [*lines[:MAX_QUOTED_LINES], "… (shortened)"]
    return "\n".join((_QUOTE_MARK + _break_fold_markers(line)).rstrip() for line in lines)


def _replace_unsafe(text: str, replacement: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        replacement if unicodedata.category(c) in _UNSAFE and c not in _JOINERS else c for c in text
    )


def _break_fold_markers(line: str) -> str:
    # A single colon is enough to break: the words around may end, or begin, with the others.
    return _FOLD_MARKER.sub(": ", line)
