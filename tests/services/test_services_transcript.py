"""The transcript: the last events, within its limit."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_agent_tasks.services.transcript import MAX_TRANSCRIPT_BYTES, Transcript


def write(*events: dict[str, Any], max_bytes: int = MAX_TRANSCRIPT_BYTES) -> dict[str, Any]:
    transcript = Transcript(max_bytes)
    for event in events:
        transcript.add(event)
    return transcript.to_json()


def test_a_short_stream_is_kept_as_it_is() -> None:
    events = [{"type": "a", "n": 1, "list": [None, True, 1.5, "ü"]}, {"type": "b", "inner": {"x": "y z"}}]
    assert write(*events) == {"events": events, "left_out": 0}


def test_nothing_is_a_transcript_too() -> None:
    assert write() == {"events": [], "left_out": 0}


def test_the_oldest_events_are_left_out_as_a_whole() -> None:
    events = [{"type": "progress_update", "delta": f"wörd {number} "} for number in range(10_000)]
    kept = write(*events)
    assert kept["left_out"] > 8_000
    assert kept["events"] == events[kept["left_out"] :]
    assert MAX_TRANSCRIPT_BYTES - 200 < len(json.dumps(kept)) <= MAX_TRANSCRIPT_BYTES


@pytest.mark.parametrize("max_bytes", range(100, 400, 7))
def test_the_limit_holds_at_any_size(max_bytes: int) -> None:
    kept = write(*({"n": number} for number in range(100)), max_bytes=max_bytes)
    assert len(json.dumps(kept)) <= max_bytes
    assert kept["left_out"] + len(kept["events"]) == 100


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("A" * 1_400_000, "(1,400,000 characters)"),
        ("A" * 1_000, None),
        ("word " * 300, None),
        (f"see data:image/png;base64,{'A' * 2_000} there", "see (2,022 characters) there"),
        ("\n".join(["A" * 76] * 30), "(2,309 characters)"),
        ("\n".join(["A" * 76] * 10), None),
    ],
)
def test_long_words_become_notes_of_their_size(text: str, kept: str | None) -> None:
    event = write({"type": "screenshots", "screenshots": [{"base64": text}]})["events"][0]
    assert event == {"type": "screenshots", "screenshots": [{"base64": text if kept is None else kept}]}


def test_an_event_that_is_too_large_becomes_a_note() -> None:
    kept = write({"type": "a"}, {"type": "report", "text": "word " * 20_000}, {"type": "b"})
    assert kept == {
        "events": [{"type": "a"}, {"type": "report", "left_out": "(100,030 characters)"}, {"type": "b"}],
        "left_out": 0,
    }


def test_an_event_that_its_caller_changes_later_is_kept_as_it_was() -> None:
    transcript = Transcript()
    event: dict[str, Any] = {"list": [1]}
    transcript.add(event)
    event["list"].append(2)
    assert transcript.to_json()["events"] == [{"list": [1]}]


@pytest.mark.parametrize(
    "text", ["x", "x" * 999 + " ", "A" * 76 + "\n", "A" * 60 + "\n" + "B" * 900 + "\n", " "]
)
def test_hostile_text_costs_no_more_time_than_its_length(text: str) -> None:
    begun = time.process_time()
    write({"text": text * (5_000_000 // len(text))})
    assert time.process_time() - begun < 5.0
