"""Replies that nobody types: those of the operator's ``reply`` function, and ``input_default``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_agent_tasks.lifecycle.auto_reply import build_default_reply, call_reply, find_fault
from airflow_agent_tasks.lifecycle.question_form import MAX_REPLY
from airflow_agent_tasks.lifecycle.question_log import SEND, Reply

LOG = logging.getLogger(__name__)
NOW = 1_790_000_000.0


def answer_briefly(question: str) -> str | None:
    return f"{question}: yes"


def fail(question: str) -> str | None:
    raise RuntimeError(question)


def test_a_function_answers_under_its_own_name_and_with_the_time() -> None:
    reply = call_reply(answer_briefly, "Go on?", LOG, clock=lambda: NOW)
    assert reply == Reply(
        SEND, "Go on?: yes", {"id": "reply", "name": "answer_briefly"}, "2026-09-21T14:13:20+00:00"
    )


@pytest.mark.parametrize(
    ("program", "logged"),
    [
        (None, ""),
        (lambda question: None, ""),
        (fail, "reply (fail) raised an exception: RuntimeError('Go on?')"),
        (lambda question: " ", "Ignored what reply (<lambda>) returned: it was empty."),
        (lambda question: 7, "Ignored what reply (<lambda>) returned: it was empty."),
        (
            lambda question: "x" * (MAX_REPLY + 1),
            "Ignored what reply (<lambda>) returned: it had 10001 characters; the limit is 10000.",
        ),
    ],
)
def test_a_question_is_left_to_others(
    program: Callable[[str], Any] | None, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert call_reply(program, "Go on?", LOG, clock=lambda: NOW) is None
    assert caplog.messages == ([logged] if logged else [])


def test_the_default_reply_says_that_nobody_gave_it() -> None:
    assert build_default_reply(None, now=NOW) is None
    reply = build_default_reply("No.", now=NOW)
    assert reply is not None
    assert (reply.text, reply.answered_by["id"], find_fault(reply)) == ("No.", "input_default", None)
