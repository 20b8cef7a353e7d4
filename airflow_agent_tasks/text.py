"""Makes untrusted text safe for messages and log lines."""

from __future__ import annotations

import re

# Including lone surrogates: aiohttp leaves them in headers, and a log line with one cannot be written.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def shorten(text: str, limit: int = 200) -> str:
    """Return untrusted text as one line of at most ``limit`` characters, without control characters."""
    line = _CONTROL_CHARACTERS.sub(" ", text[: limit * 2]).strip()
    return line if len(line) <= limit and len(text) <= limit * 2 else line[: limit - 1] + "…"
