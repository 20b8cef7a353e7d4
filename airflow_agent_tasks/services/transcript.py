"""The last events of a stream, within a limit, as XCom can store them."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from airflow_agent_tasks.text import shorten

#: The limit of a transcript's JSON text: what Airflow stores for a worker without a warning.
MAX_TRANSCRIPT_BYTES = 64 * 1024
#: Longer words are embedded data, such as a screenshot, and are replaced by a note.
MAX_WORD = 1_000
#: Such a word, or lines as in e-mails. The look-behind keeps the search linear: within a word, it fails at
#: once.
_DATA = re.compile(
    rf"(?<!\S)(?:\S{{{MAX_WORD + 1},}}|(?:[A-Za-z0-9+/=]{{60,76}}\r?\n){{13,}}[A-Za-z0-9+/=]*)"
)
#: The JSON around the events, with a generous number.
_FRAME_BYTES = len('{"events": [], "left_out": 1000000000000}')
_SEPARATOR_BYTES = len(", ")


class Transcript:
    """
    Keeps the last events of a stream as plain JSON.

    The oldest events are dropped first, each as a whole. Long words, such as base64, are replaced by a note
    of their size; an event that is too large even so is replaced by a note.

    :param max_bytes: Maximum length of the whole transcript as JSON text, in bytes. Default 64 KiB.
    """

    def __init__(self, max_bytes: int = MAX_TRANSCRIPT_BYTES) -> None:
        self._max_bytes = max_bytes - _FRAME_BYTES
        # As text: each event is encoded once, its size is known, and it shares no object with its caller.
        self._events: deque[str] = deque()
        self._bytes = 0
        self._left_out = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Add an event; drops the oldest ones if there is no room."""
        text = json.dumps(_without_data(event))
        if len(text) > self._max_bytes:
            note = {"type": shorten(str(event.get("type", "")), 100), "left_out": _note(len(text))}
            text = json.dumps(note)
        self._events.append(text)
        self._bytes += len(text) + _SEPARATOR_BYTES
        while self._bytes > self._max_bytes and self._events:
            self._bytes -= len(self._events.popleft()) + _SEPARATOR_BYTES
            self._left_out += 1

    def to_json(self) -> dict[str, Any]:
        """Return ``{"events": […], "left_out": 0}``: the last events, and how many were dropped before."""
        return {"events": [json.loads(text) for text in self._events], "left_out": self._left_out}


def _without_data(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_WORD else _DATA.sub(lambda data: _note(len(data[0])), value)
    if isinstance(value, list):
        return [_without_data(item) for item in value]
    if isinstance(value, dict):
        return {_without_data(key): _without_data(item) for key, item in value.items()}
    return value


def _note(characters: int) -> str:
    return f"({characters:,} characters)"
