"""The events with which a task resumes, and what it believes of them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.lifecycle.trigger_event import (
    build_callback_event,
    build_event,
    build_slot_event,
    is_callback,
    read_event,
    read_is_pushed,
    read_try_number,
)
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict

STARTED = StartedTask("tsk_1", "agt_1", 1000.0)
REACHED = Decision(Verdict.REACHED)


def test_an_event_of_the_trigger_names_the_try_that_waited_if_it_is_known() -> None:
    event = build_event(STARTED, REACHED, try_number=3)
    assert read_try_number(event) == 3
    assert read_event(event)[0] == STARTED
    assert "try_number" not in build_event(STARTED, REACHED)


def test_an_event_of_a_callback_says_nothing_but_the_try() -> None:
    event = build_callback_event(2)
    assert is_callback(event)
    assert read_try_number(event) == 2
    assert not is_callback(build_event(STARTED, REACHED))


def test_an_event_of_a_slot_says_nothing_but_the_try() -> None:
    event = build_slot_event(2)
    assert read_try_number(event) == 2
    assert not is_callback(event)


def test_an_event_says_whether_xcom_has_the_id_already() -> None:
    assert read_is_pushed(build_event(STARTED, REACHED, is_pushed=True))
    assert not read_is_pushed(build_event(STARTED, REACHED))


@pytest.mark.parametrize(
    "event", [None, "callback", [], {"callback": "yes"}, {"try_number": "1"}, {"is_pushed": "yes"}]
)
def test_anything_else_is_no_callback_and_names_no_try(event: Any) -> None:
    assert not is_callback(event)
    assert not read_is_pushed(event)
    assert read_try_number(event) is None
