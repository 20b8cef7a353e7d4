"""The id of a started task: it stands in the log and in messages, so it must not forge either."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.services.http import is_usable_id
from airflow_agent_tasks.services.response_values import identifier

USABLE = ["tsk_12b86decea850db4", "a/b", "0", "0c3e6d5e-6f0a-4a37-9d43-2b5e8f7e3a11", "naïve id", "x" * 256]
FORGING = [
    "\n",
    "\r",
    "\x1b[31m",
    "\x85",
    "\u2028",
    "\u202e",
    "\u200b",
    "\ufeff",
    "\x00",
    "::endgroup::",
    "::group::",
]


@pytest.mark.parametrize("given", USABLE)
def test_a_usable_id_is_kept_as_it_is(given: str) -> None:
    assert identifier(given) == given
    assert is_usable_id(given)


@pytest.mark.parametrize("forging", FORGING)
@pytest.mark.parametrize("place", ["{}tsk_1", "tsk_1{}", "tsk{}_1", "{}"])
def test_an_id_that_could_forge_a_part_of_the_log_cannot_be_used(forging: str, place: str) -> None:
    assert not is_usable_id(place.format(forging))


@pytest.mark.parametrize("given", ["", " ", ".", "..", "None", "x" * 257, "x" * 1_000_000])
def test_an_id_that_no_path_can_hold_cannot_be_used(given: str) -> None:
    assert not is_usable_id(given)


@pytest.mark.parametrize("given", [None, "", " ", ["tsk_1"], {}, True, 1.5])
def test_what_is_no_id_is_none(given: Any) -> None:
    assert identifier(given) is None


def test_a_number_is_an_id() -> None:
    assert identifier(17) == "17"
