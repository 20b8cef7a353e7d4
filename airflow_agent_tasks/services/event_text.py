"""Text of a stream's events for the log: safe lines without embedded data, and sentences from deltas."""

from __future__ import annotations

import re
from collections.abc import Callable

from airflow_agent_tasks.services.http import keep
from airflow_agent_tasks.text import shorten

#: The limit of one log line, in characters.
MAX_LINE = 500
#: A piece of text without an end of a sentence becomes a line of its own after this many characters.
MAX_SENTENCE = 300
#: A longer word is not prose; the rest of it is left out.
_MAX_WORD = 4_000
#: Embedded data, such as base64, in one word, or in lines of equal length as in e-mails.
_DATA = re.compile(
    r"(?:data:[\w.+-]{1,40}/[\w.+-]{1,40};base64,)?(?<![A-Za-z0-9+/_-])"
    r"(?:[A-Za-z0-9+/_-]{120,}|(?:[A-Za-z0-9+/]{60,76}\s{1,2}){2,}[A-Za-z0-9+/]*)={0,2}"
)
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]*_]{0,3}\s|[。！？]|[\r\n]")  # noqa: RUF001


def to_line(text: str, limit: int = MAX_LINE) -> str:
    """
    Return untrusted text as one line for the log, with "[data]" in place of base64.

    :param text: The text.
    :param limit: Maximum number of characters to return.
    """
    # Twice the limit, as shorten does; and enough to recognise data that begins within it.
    start = text[: 2 * limit + 200]
    return shorten(_DATA.sub("[data]", start) + ("…" if len(text) > len(start) else ""), limit)


class SentenceJoiner:
    """
    Joins deltas, the small pieces in which an agent's text arrives, into lines for the log.

    A line ends with a sentence (``. ! ? …`` before white space) or a line break, otherwise between two words
    within 300 characters. It never ends within a word; of a longer word, 4,000 characters are kept. So
    memory is bounded by these and one delta.

    :param redact: Returns each line without the connection's secrets, of which each delta may have had only a
        part; default unchanged.
    """

    def __init__(self, redact: Callable[[str], str] = keep) -> None:
        self._redact = redact
        self._rest = ""

    def add(self, delta: str) -> list[str]:
        """Return the lines that are complete after this delta, each safe for the log and not empty."""
        text = self._rest + delta
        start = 0
        lines: list[str] = []
        for end in _SENTENCE_END.finditer(text):
            full, rest = _split(text[start : end.end()])
            lines += [*full, rest]
            start = end.end()
        full, self._rest = _split(text[start:])
        return [shown for line in [*lines, *full] if (shown := to_line(self._redact(line)))]

    def flush(self) -> list[str]:
        """Return the last, incomplete line, if there is one."""
        line, self._rest = to_line(self._redact(self._rest)), ""
        return [line] if line else []


def _split(text: str) -> tuple[list[str], str]:
    """Return the lines that a text without an end of a sentence fills, and the rest."""
    lines = []
    start = 0
    while len(text) - start > MAX_SENTENCE:
        blank = text.rfind(" ", start + 1, start + MAX_SENTENCE)
        if blank < 0:
            blank = text.find(" ", start + MAX_SENTENCE)
        if blank < 0:
            break
        lines.append(text[start:blank])
        start = blank + 1
    return lines, text[start : start + _MAX_WORD]
