"""Makes untrusted text safe for messages, log lines and forms."""

from __future__ import annotations

import re
import unicodedata

#: The limits for multi-line text in the log.
MAX_QUOTED = 4_000
MAX_QUOTED_LINES = 100

#: The characters that start a new line in an editor, in a terminal, or for ``str.splitlines``.
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
#: Control characters, characters that hide or reverse their neighbours, line ends, and lone surrogates, which
#: aiohttp leaves in headers and which cannot be written to a log.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: The character that joins letters in some scripts, and the parts of an emoji.
_JOINERS = "\u200c\u200d"
#: The Airflow UI folds the lines between these markers, even in the middle of a line, and hides the second.
_FOLD_MARKER = re.compile(r":(?=(?:end)?group:)", re.IGNORECASE)
_QUOTE_MARK = "  | "


def shorten(text: str, limit: int = 200) -> str:
    """
    Return untrusted text as one line for a message or the log.

    Control and invisible characters become spaces, and markers that would fold log lines are broken.

    :param text: The text.
    :param limit: Maximum number of characters to return; the last one is "…" if the text is longer.
    """
    line = re.sub("\0+", " ", _replace_unsafe(text[: limit * 2], "\0")).strip()
    line = _break_fold_markers(line)
    return line if len(line) <= limit and len(text) <= limit * 2 else line[: limit - 1] + "…"


def clean(text: str, limit: int) -> str:
    """
    Return untrusted text without control and invisible characters, but with its line breaks.

    :param text: The text.
    :param limit: Maximum number of characters to return.
    """
    text = _LINE_ENDS.sub("\n", text[: limit * 2]).expandtabs(4)
    return "\n".join(_replace_unsafe(line, "") for line in text.split("\n")).strip("\n")[:limit]


def quote_lines(text: str) -> str:
    """
    Return untrusted text for the log, with a mark before each line, so that no line can imitate a log line.

    :param text: The text. It is cut after ``MAX_QUOTED`` characters or ``MAX_QUOTED_LINES`` lines, and the
        last line then says so.
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
    # Breaks a single colon: the surrounding text may supply the other one.
    return _FOLD_MARKER.sub(": ", line)
