"""What the agent does in its steps reaches the stream: tool calls, deltas, screenshots, files and usage."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from itertools import pairwise

import pytest

QUICK = {"steps": 4, "step_seconds": 0.01}


@pytest.fixture
def stream(lightcone, sandbox):
    """Return a function that starts a scripted task through the official SDK, and returns its events."""

    def stream(script, **fields):
        sandbox.script(**{**QUICK, **script})
        return list(lightcone.agent.tasks.start_stream(instruction="Work.", **fields))

    return stream


def of_type(events, kind):
    return [event for event in events if event["type"] == kind]


def read_png(image: bytes) -> dict[str, bytes]:
    """Return the chunks of a PNG image, whose checksums must be right."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, rest = {}, image[8:]
    while rest:
        length, kind = struct.unpack(">I4s", rest[:8])
        content, (checksum,) = rest[8 : 8 + length], struct.unpack(">I", rest[8 + length : 12 + length])
        assert checksum == zlib.crc32(kind + content)
        chunks[kind.decode()] = content
        rest = rest[12 + length :]
    return chunks


def test_each_event_comes_in_its_step(stream):
    script = {"steps": 2, "tool_calls": ["click", "type"], "screenshots": 2, "deltas": "one two "}
    seen = [
        (event["type"], event.get("steps_completed"), event.get("step"), event.get("delta"))
        for event in stream(script, stream_deltas=True)
    ]
    assert seen == [
        ("progress_update", 0, None, None),
        ("tool_call", None, 1, None),
        ("progress_update", None, None, "one"),
        ("progress_update", None, None, " "),
        ("screenshots", None, None, None),
        ("progress_update", 1, None, None),
        ("tool_call", None, 2, None),
        ("progress_update", None, None, "two"),
        ("progress_update", None, None, " "),
        ("screenshots", None, None, None),
        ("completion", None, None, None),
    ]


@pytest.mark.parametrize(
    "script", [{"step_seconds": 0}, {"steps": 1}, {"steps": 50, "step_seconds": 0.001}, {"ask": ["Which?"]}]
)
def test_the_work_is_complete_and_in_order_at_any_pace(lightcone, sandbox, script):
    text = "A word, and then another one. " * 20
    calls = [f"call_{number}" for number in range(10)]
    sandbox.script(**{**QUICK, **script, "deltas": text, "screenshots": 10, "tool_calls": calls})
    events = []
    for event in lightcone.agent.tasks.start_stream(instruction="Work.", stream_deltas=True):
        events.append(event)
        if event.get("question"):
            lightcone.agent.tasks.inject_message(event["task_id"], message="This.")
    assert "".join(event["delta"] for event in events if "delta" in event) == text
    assert [event["name"] for event in of_type(events, "tool_call")] == calls
    steps = [event["screenshots"][0]["step"] for event in of_type(events, "screenshots")]
    assert len(steps) == 10
    assert steps == sorted(steps)
    progress = [event["steps_completed"] for event in events if "steps_completed" in event]
    assert progress == sorted(progress)
    assert set(progress) == set(range(events[0]["total_steps"]))
    assert {event["task_id"] for event in events} == {events[0]["task_id"]}


def test_deltas_need_to_be_asked_for(stream):
    assert not [event for event in stream({"deltas": True}) if "delta" in event]


def test_the_generated_text_comes_in_pieces_that_split_words(stream):
    deltas = [event["delta"] for event in stream({"deltas": True}, stream_deltas=True) if "delta" in event]
    assert max(map(len, deltas)) < 10
    text = "".join(deltas)
    assert "\n" in text
    assert not text.isascii()
    assert any(one[-1].isalpha() and following[0].isalpha() for one, following in pairwise(deltas))


def test_characters_outside_of_ascii_survive_in_deltas(stream):
    text = "🙂 e\u0301 \u2028 \r\n\n end"
    deltas = [event["delta"] for event in stream({"deltas": text}, stream_deltas=True) if "delta" in event]
    assert "".join(deltas) == text


def test_a_concise_stream_has_only_progress_and_the_end(stream):
    script = {
        "deltas": True,
        "screenshots": 3,
        "tool_calls": ["click"],
        "exit_code": 1,
        "events": [{"type": "made_up"}, {"type": "progress_update", "note": "kept"}],
    }
    events = stream(script, stream_mode="concise", stream_deltas=True)
    kinds = [event["type"] for event in events]
    assert kinds == ["progress_update"] * 5 + ["error", "completion"]
    assert events[4] == {"type": "progress_update", "note": "kept"}


def test_a_tool_call_has_the_keys_that_the_script_gives_it(stream):
    calls = ["click", {"name": "type", "arguments": {"text": "a"}}]
    first, second = of_type(stream({"tool_calls": calls}), "tool_call")
    assert (first["name"], set(first)) == ("click", {"type", "task_id", "step", "name"})
    assert (second["name"], second["arguments"]) == ("type", {"text": "a"})


@pytest.mark.parametrize("mode", [None, "base64"])
@pytest.mark.parametrize("size", [200, 1024, 1_000_000])
def test_screenshots_are_valid_images_of_the_given_size_that_differ(stream, mode, size):
    script = {"screenshots": 3, "screenshot_bytes": size}
    lists = [event["screenshots"] for event in of_type(stream(script, screenshot_mode=mode), "screenshots")]
    assert [len(one) for one in lists] == [1, 1, 1]
    assert {frozenset(one[0]) for one in lists} == {frozenset({"base64", "media_type", "step"})}
    images = [base64.b64decode(one[0]["base64"], validate=True) for one in lists]
    assert {len(image) for image in images} == {size}
    assert len(set(images)) == 3
    for image in images:
        chunks = read_png(image)
        assert list(chunks) == ["IHDR", "PLTE", "fiLl", "IDAT", "IEND"]
        width, height = struct.unpack(">II", chunks["IHDR"][:8])
        assert len(zlib.decompress(chunks["IDAT"])) == (width // 8 + 1) * height


def test_the_sandbox_serves_screenshots_given_by_address(stream, http, sandbox):
    script = {"screenshots": 2, "screenshot_bytes": 5_000}
    events = of_type(stream(script, screenshot_mode="url"), "screenshots")
    shots = [event["screenshots"][0] for event in events]
    assert {frozenset(shot) for shot in shots} == {frozenset({"url", "media_type", "step"})}
    replies = [http("GET", shot["url"], headers={}) for shot in shots]
    assert [reply.headers["content-type"] for reply in replies] == ["image/png"] * 2
    assert [len(reply.content) for reply in replies] == [5_000] * 2
    assert replies[0].content != replies[1].content
    folder = shots[0]["url"].rpartition("/")[0]
    assert folder == f"{sandbox.url}/_sandbox/screenshots/{events[0]['task_id']}"
    for missing in ("0.png", "3.png", "x.png", "-1.png", "².png", "1.jpg"):
        assert http("GET", f"{folder}/{missing}").status_code == 404
    assert http("GET", "/_sandbox/screenshots/tsk_none/1.png").status_code == 404


FILES = [
    {"name": "notes.txt", "media_type": "text/plain", "text": "Grüße"},
    {"name": "../video", "bytes": 100_000},
]


def test_files_are_in_the_result_of_both_services(stream, http, wait_until):
    result = stream({"files": FILES, "result": {"answer": 42}})[-1]["result"]
    assert result["answer"] == 42
    notes, video = result["files"]
    assert (notes["name"], notes["media_type"]) == ("notes.txt", "text/plain")
    assert base64.b64decode(notes["base64"]).decode() == "Grüße"
    assert (video["name"], video["media_type"]) == ("../video", "application/octet-stream")
    assert len(base64.b64decode(video["base64"])) == 100_000
    poll_url = http.submit()["poll_url"]
    assert wait_until(lambda: http("GET", poll_url).json().get("result")) == result


def test_files_are_added_to_the_summary(stream):
    assert set(stream({"files": FILES})[-1]["result"]) == {"summary", "files"}


USAGE = {"tokens": {"input": 1_001, "model": "m"}, "cost": 0.5, "currency": "EUR", "cached": True, "n": None}
WORDS = {"currency": "EUR", "cached": True, "n": None}


def test_usage_grows_with_the_steps_in_the_stream(stream):
    events = stream({"usage": USAGE})
    assert [event["usage"] for event in events] == [
        {"tokens": {"input": 0, "model": "m"}, "cost": 0.0, **WORDS},
        {"tokens": {"input": 250, "model": "m"}, "cost": 0.125, **WORDS},
        {"tokens": {"input": 500, "model": "m"}, "cost": 0.25, **WORDS},
        {"tokens": {"input": 750, "model": "m"}, "cost": 0.375, **WORDS},
        USAGE,
    ]
    assert list(events[0]["usage"]) == list(USAGE)


@pytest.mark.parametrize("service", ["lightcone", "shinzo"])
def test_usage_is_in_the_status_of_both_services(http, wait_until, sandbox, service):
    def find_usage(path):
        reply = http("GET", path).json()
        return reply["usage"] if reply["status"] == "completed" else None

    def begin():
        return http.submit()["poll_url"] if service == "shinzo" else f"/agent/tasks/{http.start()['task_id']}"

    sandbox.script(step_seconds=60, usage=USAGE)
    assert http("GET", begin()).json()["usage"] == {
        "tokens": {"input": 0, "model": "m"},
        "cost": 0.0,
        **WORDS,
    }
    sandbox.script(**QUICK, usage=USAGE)
    path = begin()
    assert wait_until(lambda: find_usage(path)) == USAGE


def test_without_a_usage_in_the_script_nothing_reports_any(stream, http):
    assert not [event for event in stream({"deltas": True}, stream_deltas=True) if "usage" in event]
    assert "usage" not in http("GET", f"/agent/tasks/{http.start()['task_id']}").json()
    assert "usage" not in http("GET", http.submit()["poll_url"]).json()


def test_ten_thousand_deltas_are_all_streamed(http, sandbox):
    sandbox.script(steps=10, step_seconds=0.001, deltas="word " * 8_000)
    start = {"instruction": "Work.", "stream_deltas": True}
    reply = http("POST", "/agent/tasks/stream", start, stream=True)
    deltas = [json.loads(line[6:]).get("delta", "") for line in reply.iter_lines() if line]
    assert len(deltas) > 10_000
    assert "".join(deltas) == "word " * 8_000


@pytest.mark.parametrize("leaves", [True, False])
def test_a_reader_that_waits_or_leaves_holds_up_nobody_else(http, sandbox, leaves):
    sandbox.script(steps=1, step_seconds=0, screenshots=1_000, screenshot_bytes=1_000_000)
    reply = http("POST", "/agent/tasks/stream", {"instruction": "Work."}, stream=True)
    pieces = reply.iter_content(1)
    assert next(pieces) == b"d"
    if leaves:
        reply.close()
    # All thousand would take longer than this.
    assert http("GET", "/agent/tasks/x", timeout=2).status_code == 404
    reply.close()
