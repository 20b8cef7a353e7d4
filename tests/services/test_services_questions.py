"""The question, progress and timestamps of a response, wherever they are in it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.agent_task import Progress
from airflow_agent_tasks.services.response_values import NO_QUESTION
from tests.service_samples import SHINZO, read_status

#: All the places of a question, the first one first.
PLACES = [
    ("question",),
    ("prompt",),
    ("input_request",),
    ("message",),
    ("progress", "question"),
    ("progress", "prompt"),
    ("progress", "input_request"),
    ("progress", "message"),
    ("progress", "current_step"),
]


def ask_at(*places: tuple[str, ...]) -> dict[str, Any]:
    reply: dict[str, Any] = {"status": "awaiting_input", "progress": {}}
    for place in places:
        inner = reply if len(place) == 1 else reply["progress"]
        inner[place[-1]] = "/".join(place)
    return reply


@pytest.mark.parametrize("number", range(len(PLACES)))
def test_the_question_is_the_first_one_in_the_documented_order(number: int) -> None:
    assert read_status(SHINZO, **ask_at(*PLACES[number:])).question == "/".join(PLACES[number])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nothing", [None, "", " \n", True, [], {}, {"text": "a"}])
def test_a_place_without_a_text_is_passed_over(place: tuple[str, ...], nothing: Any) -> None:
    reply = ask_at(*PLACES)
    for earlier in PLACES[: PLACES.index(place) + 1]:
        inner = reply if len(earlier) == 1 else reply["progress"]
        inner[earlier[-1]] = nothing
    later = PLACES[PLACES.index(place) + 1 :]
    assert read_status(SHINZO, **reply).question == ("/".join(later[0]) if later else NO_QUESTION)


@pytest.mark.parametrize("progress", [None, "Which?", ["Which?"], 5])
def test_a_question_in_something_that_is_no_progress_is_our_own_sentence(progress: Any) -> None:
    task = read_status(SHINZO, status="awaiting_input", progress=progress, current_step="Which?")
    assert task.question == "The agent waits for input but did not say what it wants to know."


def test_a_question_is_bounded_but_long() -> None:
    task = read_status(SHINZO, status="awaiting_input", question="Why?\n" * 10_000)
    assert task.question == "Why?\n" * 2_000


@pytest.mark.parametrize("word", ["queued", "running", "completed", "failed", "cancelled", "unheard-of"])
def test_only_a_task_that_awaits_input_asks(word: str) -> None:
    assert read_status(SHINZO, **{**ask_at(*PLACES), "status": word}).question is None


# --- progress and time stamps --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (None, None),
        ("half", None),
        ([1, 2], None),
        (0.5, None),
        (True, None),
        ({}, Progress()),
        ({"current_step": "a", "steps_completed": 0, "total_steps": 5}, Progress("a", 0, 5)),
        ({"current_step": 7, "steps_completed": "2", "total_steps": 5.0}, Progress("7", 2, 5)),
        ({"current_step": ["a"], "steps_completed": True, "total_steps": 2.5}, Progress()),
        ({"current_step": " ", "steps_completed": "two", "total_steps": {}}, Progress()),
        ({"current_step": "a" * 5_000}, Progress("a" * 1_000)),
    ],
)
def test_progress_of_any_type_is_read_as_far_as_it_goes(progress: Any, expected: Progress | None) -> None:
    assert read_status(SHINZO, status="running", progress=progress).progress == expected


@pytest.mark.parametrize("name", ["created_at", "started_at", "completed_at"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [("2025-01-20T10:00:00Z", "2025-01-20T10:00:00Z"), (1737367200, "1737367200"), (None, None), ([], None)],
)
def test_time_stamps_are_kept_as_the_service_wrote_them(name: str, value: Any, expected: str | None) -> None:
    assert getattr(read_status(SHINZO, **{"status": "running", name: value}), name) == expected
