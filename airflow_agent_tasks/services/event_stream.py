"""Parses server-sent events (WHATWG HTML standard, section "server-sent events"): bytes in, events out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_agent_tasks.errors import AgentTaskReplyError
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, keep, parse_json

#: The marker that some services send last.
END_MARK = "[DONE]"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventStreamParser:
    """
    Parses a ``text/event-stream`` chunk by chunk.

    Comments, ids, retry hints and events without data are ignored. Data that is a JSON object is returned
    unchanged, any other data as ``{"data": …}``. An ``event:`` name becomes the ``type``, unless the data
    already has one.

    :param redact: Returns each text without the connection's secrets; default unchanged.
    """

    def __init__(self, redact: Callable[[str], str] = keep) -> None:
        self._redact = redact
        self._rest = bytearray()
        self._ended_in_return = False
        self._is_first_line = True
        # As bytes, because a list of many short lines would take many times their size.
        self._data = bytearray()
        self._name = ""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """
        Return the events that are complete after this chunk.

        :raises AgentTaskReplyError: if one event exceeds the size limit of a response.
        """
        # A line feed at the start of a chunk may be the second half of a line end in the previous chunk.
        text = chunk.removeprefix(b"\n") if self._ended_in_return else chunk
        self._ended_in_return = chunk.endswith(b"\r") or (self._ended_in_return and not chunk)
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        # Only the unfinished line is kept, and it grows in place: a screenshot is one line of megabytes.
        self._rest += rest
        events = [event for line in lines if (event := self._read_line(line)) is not None]
        if len(self._data) + len(self._rest) > MAX_BODY_BYTES:
            raise AgentTaskReplyError(
                f"The event stream has an event of more than {MAX_BODY_BYTES} bytes; the rest was not read."
            )
        return events

    def finish(self) -> list[dict[str, Any]]:
        """Return the last event, in case the service omits the blank line after it."""
        return self.feed(b"\n\n")

    def _read_line(self, line: bytes) -> dict[str, Any] | None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._take_event()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += value
            self._data += b"\n"
        elif name == b"event":
            self._name = value.decode(errors="replace")
        return None

    def _take_event(self) -> dict[str, Any] | None:
        text, name = self._data[:-1].decode(errors="replace"), self._name
        self._data.clear()
        self._name = ""
        if not text or text == END_MARK:
            return None
        try:
            data = parse_json(text, self._redact)
        except ValueError:
            data = self._redact(text)
        event = data if isinstance(data, dict) else {"data": data}
        return {"type": self._redact(name), **event} if name else event
