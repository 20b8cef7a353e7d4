"""Server-sent events: bytes in, events out (the WHATWG HTML standard, section "server-sent events")."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.errors import AgentTaskReplyError
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, parse_json

#: The marker that some services send as their last event.
END_MARK = "[DONE]"


class EventStreamParser:
    """
    Reads a ``text/event-stream`` piece by piece.

    Comments, ids, retry hints and events without data are passed over. Data that is a JSON object comes
    as it is; anything else as ``{"data": …}``. An ``event:`` name is put under ``type`` where the data
    has none.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._ended_in_return = False
        self._data: list[str] = []
        self._size = 0
        self._name = ""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """
        Return the events that are complete after this chunk.

        :raises AgentTaskReplyError: when one event grows beyond the bound of a reply.
        """
        # A line feed that opens a chunk may be the other half of a line end that the last chunk began.
        text = chunk.removeprefix(b"\n") if self._ended_in_return else chunk
        self._ended_in_return = chunk.endswith(b"\r") or (self._ended_in_return and not chunk)
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        # Only what has no line end yet is kept, and it grows in place: a screenshot is one line of megabytes.
        self._rest += rest
        events = [event for line in lines if (event := self._read_line(line)) is not None]
        if self._size + len(self._rest) > MAX_BODY_BYTES:
            raise AgentTaskReplyError(
                f"The event stream holds one event of more than {MAX_BODY_BYTES} bytes; it is not read on."
            )
        return events

    def finish(self) -> list[dict[str, Any]]:
        """Return the last event, which a careless service ends without its blank line."""
        return self.feed(b"\n\n")

    def _read_line(self, line: bytes) -> dict[str, Any] | None:
        if not line:
            return self._take_event()
        name, _, value = line.decode("utf-8-sig", errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(line)
        elif name == "event":
            self._name = value
        return None

    def _take_event(self) -> dict[str, Any] | None:
        text, name = "\n".join(self._data), self._name
        self._data, self._size, self._name = [], 0, ""
        if not text or text == END_MARK:
            return None
        try:
            data = parse_json(text)
        except ValueError:
            data = text
        event = data if isinstance(data, dict) else {"data": data}
        return {"type": name, **event} if name else event
