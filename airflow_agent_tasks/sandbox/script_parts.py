"""The nested parts of a script: events, tool calls, files and the faults of the stream."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from airflow_agent_tasks.sandbox.strict_json import Checked, CheckedStrictly

LARGEST_CONTENT = 50_000_000

#: What ``"deltas": true`` streams: some sentences, a line break, and characters outside of ASCII.
GENERATED_TEXT = (
    "I open the page and read it from top to bottom. The table lists three offers: 12 €, 9.50 € and 15 €. "
    "The second one is the cheapest, so I choose it.\n"
    "Next I check the delivery date: tomorrow, before noon. That fits, and I am done ✓."
)
#: The lengths of a delta, in turn. Most words are longer, so pieces end in the middle of words.
_DELTA_SIZES = (3, 6, 1, 4, 2, 8)


class Event(Checked):
    """One event of the stream: a type and any other keys."""

    model_config = ConfigDict(extra="allow")

    type: str


class ToolCall(Checked):
    """One call of a tool: its name and any other keys. The name alone is enough."""

    model_config = ConfigDict(extra="allow")

    name: str

    @model_validator(mode="before")
    @classmethod
    def _may_be_the_name_alone(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given


class File(CheckedStrictly):
    """
    A file in the result.

    :param name: Its name.
    :param media_type: Its media type; default ``application/octet-stream``.
    :param text: Its content as text.
    :param bytes: The size of filler in bytes, instead of ``text``.
    """

    name: str
    media_type: str = "application/octet-stream"
    text: str | None = None
    bytes: Annotated[int, Field(ge=0, le=LARGEST_CONTENT)] | None = None

    @model_validator(mode="after")
    def _must_have_one_content(self) -> File:
        if (self.text is None) == (self.bytes is None):
            raise ValueError("a file needs either text or bytes")
        return self

    def to_json(self) -> dict[str, str]:
        """Return the file as it appears in the result."""
        content = b"." * (self.bytes or 0) if self.text is None else self.text.encode("utf-8", "replace")
        return {"name": self.name, "media_type": self.media_type, "base64": encode_base64(content)}


class StreamFault(CheckedStrictly):
    """
    How the stream misbehaves. The task itself goes on.

    :param cut_after: Cut the connection after this many events; with a fraction of one half, in the middle of
        the next event.
    :param cut_before_completion: Cut the connection instead of sending the completion.
    :param stall_after: After this many events, send nothing more, but keep the connection open.
    :param omit_completion: End the stream in order, but without the completion.
    """

    cut_after: Annotated[float, Field(ge=0, multiple_of=0.5)] | None = None
    cut_before_completion: bool = False
    stall_after: Annotated[int, Field(ge=0)] | None = None
    omit_completion: bool = False

    @model_validator(mode="after")
    def _must_be_one_fault(self) -> StreamFault:
        given = [self.cut_after is not None, self.cut_before_completion]
        given += [self.stall_after is not None, self.omit_completion]
        if sum(given) != 1:
            raise ValueError(f"stream needs one of {', '.join(StreamFault.model_fields)}")
        return self

    @property
    def limit(self) -> float:
        """The number of events after which the stream is cut or stalls; infinite if it does neither."""
        limits = [limit for limit in (self.cut_after, self.stall_after) if limit is not None]
        return min(limits, default=math.inf)


def encode_base64(content: bytes) -> str:
    """Return bytes as Base64 text."""
    return base64.b64encode(content).decode("ascii")


def split_into_deltas(text: str) -> Iterator[str]:
    """Yield the text in pieces of a few characters, as a model produces its tokens."""
    start = turn = 0
    while start < len(text):
        size = _DELTA_SIZES[turn % len(_DELTA_SIZES)]
        yield text[start : start + size]
        start += size
        turn += 1
