"""Server-sent events: lines, names, data, and borders of chunks anywhere."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from airflow_agent_tasks.errors import AgentTaskReplyError
from airflow_agent_tasks.services.event_stream import EventStreamParser
from airflow_agent_tasks.services.http import MAX_BODY_BYTES

STREAMS: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "one event": (b'data: {"type": "completion"}\n\n', [{"type": "completion"}]),
    "two events": (b'data: {"a": 1}\n\ndata: {"a": 2}\n\n', [{"a": 1}, {"a": 2}]),
    "carriage returns and line feeds": (
        b'data: {"a": 1}\r\n\r\ndata: {"a": 2}\r\n\r\n',
        [{"a": 1}, {"a": 2}],
    ),
    "carriage returns": (b'data: {"a": 1}\r\rdata: {"a": 2}\r\r', [{"a": 1}, {"a": 2}]),
    "mixed line ends": (b'data: {"a":\r\ndata: 1}\n\rdata: {"a": 2}\r\r\n', [{"a": 1}, {"a": 2}]),
    "no space after the colon": (b'data:{"a": 1}\n\n', [{"a": 1}]),
    "only one space is taken": (b"data:  a\n\n", [{"data": " a"}]),
    "comments": (b': heartbeat\n\n: again\ndata: {"a": 1}\n:\n\n', [{"a": 1}]),
    "ids and retry hints": (b'id: 5\nretry: 3000\ndata: {"a": 1}\n\nid: 6\n\n', [{"a": 1}]),
    "an event name": (b'event: progress_update\ndata: {"a": 1}\n\n', [{"type": "progress_update", "a": 1}]),
    "an event name after the data": (b'data: {"a": 1}\nevent: error\n\n', [{"type": "error", "a": 1}]),
    "the data's own type": (b'event: message\ndata: {"type": "error"}\n\n', [{"type": "error"}]),
    "a name lasts for one event": (b'event: a\n\ndata: {"a": 1}\n\n', [{"a": 1}]),
    "several data lines": (b'data: {"a":\ndata: [1,\ndata: 2]}\n\n', [{"a": [1, 2]}]),
    "several lines of text": (b"data: a\ndata\ndata: b\n\n", [{"data": "a\n\nb"}]),
    "the mark of the end": (b'data: {"a": 1}\n\ndata: [DONE]\n\n', [{"a": 1}]),
    "a last event without its blank line": (b'data: {"a": 1}\n\ndata: {"a": 2}\n', [{"a": 1}, {"a": 2}]),
    "a last event without its line end": (b'data: {"a": 1}\n\ndata: {"a": 2}', [{"a": 1}, {"a": 2}]),
    "a last event after a carriage return": (b'data: {"a": 1}\r', [{"a": 1}]),
    "data that is no JSON": (b"data: hello\n\n", [{"data": "hello"}]),
    "data that is no object": (
        b"data: [1, 2]\n\ndata: 5\n\ndata: null\n\n",
        [{"data": [1, 2]}, {"data": 5}, {"data": None}],
    ),
    "named data that is no object": (b"event: log\ndata: hello\n\n", [{"type": "log", "data": "hello"}]),
    "data that is nested too deeply": (b"data: " + b"[" * 9_999 + b"\n\n", [{"data": "[" * 9_999}]),
    "data that cannot be stored": (
        rb'data: {"a": NaN, "b": "\u0000\ud800"}' + b"\n\n",
        [{"a": None, "b": "\ufffd\ufffd"}],
    ),
    "data without a value": (b"data\n\ndata:\n\nevent: a\ndata:\n\n", []),
    "unknown names": (b'colour: red\nDATA: x\n data: y\ndata: {"a": 1}\n\n', [{"a": 1}]),
    "letters of several bytes": ('data: {"a": "größe 🙂"}\n\n'.encode(), [{"a": "größe 🙂"}]),
    "line separators that are none": (
        "data: a\u2028b\x85c\x0bd\n\n".encode(),
        [{"data": "a\u2028b\x85c\x0bd"}],
    ),
    "bytes that are no text": (b"data: \xff\n\n", [{"data": "\ufffd"}]),
    "a byte order mark": (b'\xef\xbb\xbfdata: {"a": 1}\n\n', [{"a": 1}]),
    "a byte order mark before a comment": (b"\xef\xbb\xbf: hello\ndata: 1\n\n", [{"data": 1}]),
    "a byte order mark before a blank line": (
        b"\xef\xbb\xbf\r\n\xef\xbb\xbfdata: 1\n\ndata: 2\n\n",
        [{"data": 2}],
    ),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [{"data": 2}]),
    "a byte order mark that is none": (
        b"data: 1\n\xef\xbb\xbfdata: 2\ndata: \xef\xbb\xbf3\n\n",
        [{"data": "1\n\ufeff3"}],
    ),
    "half a byte order mark": (b"\xef\xbbdata: 1\n\ndata: 2\n\n", [{"data": 2}]),
    "a letter that ends with its line": (b"data: a\xc3\ndata: \xa4b\n\n", [{"data": "a\ufffd\n\ufffdb"}]),
    "a retry hint that is none, and one alone": (b"retry: soon\ndata: 1\n\nretry: 5\n\n", [{"data": 1}]),
    "nothing": (b"", []),
    "blank lines": (b"\n\r\n\r\n\n", []),
}


def read(*chunks: bytes) -> list[dict[str, Any]]:
    parser = EventStreamParser()
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_in_one(name: str) -> None:
    stream, events = STREAMS[name]
    assert read(stream) == events


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_byte_by_byte_with_empty_chunks_between(name: str) -> None:
    stream, events = STREAMS[name]
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == events
    assert read(*(chunk for at in range(len(stream)) for chunk in (stream[at : at + 1], b""))) == events


@pytest.mark.parametrize("name", [name for name, (stream, _) in STREAMS.items() if len(stream) < 100])
def test_a_stream_is_read_with_a_border_anywhere(name: str) -> None:
    stream, events = STREAMS[name]
    for border in range(len(stream) + 1):
        assert read(stream[:border], stream[border:]) == events


def test_an_event_comes_with_the_chunk_that_ends_it() -> None:
    parser = EventStreamParser()
    assert parser.feed(b'data: {"a": 1}\n') == []
    assert parser.feed(b"\n") == [{"a": 1}]
    assert parser.feed(b'data: {"a": 2}\r\r') == [{"a": 2}]
    assert parser.feed(b"\n") == []
    assert parser.finish() == []


@pytest.mark.parametrize("line_end", [b"", b"\ndata: "], ids=["one line", "many lines"])
def test_an_event_that_grows_beyond_the_bound_is_not_read_on(line_end: bytes) -> None:
    parser = EventStreamParser()
    chunk = b"x" * (MAX_BODY_BYTES // 8) + line_end
    assert parser.feed(b"data: ") == []
    for _ in range(7):
        assert parser.feed(chunk) == []
    with pytest.raises(AgentTaskReplyError) as caught:
        parser.feed(chunk)
    assert str(caught.value) == (
        f"The event stream has an event of more than {MAX_BODY_BYTES} bytes; the rest was not read."
    )
    assert not caught.value.is_transient


def test_an_event_of_many_lines_takes_no_more_memory_than_its_text() -> None:
    parser = EventStreamParser()
    lines = b"data: ab\n" * 10_000
    tracemalloc.start()
    try:
        for _ in range(30):
            assert parser.feed(lines) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 30 * len(lines)


def test_many_events_may_be_larger_together_than_one_may_be() -> None:
    parser = EventStreamParser()
    event = b'data: "' + b"x" * (MAX_BODY_BYTES // 4) + b'"\n\n'
    assert [len(parser.feed(event)) for _ in range(6)] == [1] * 6
