"""How long a service asks us to stay away."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from airflow_agent_tasks.services.retry_advice import read_retry_after

#: Fri, 31 Jan 2025 12:00:00 GMT
NOW = 1_738_324_800.0


@pytest.fixture
def _in_tokyo() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after": "31536000"}, 3600.0),
        ({"retry-after": "Fri, 31 Jan 2025 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 31 Jan 2025 13:00:30 +0100"}, 30.0),
        ({"retry-after": "Friday, 31-Jan-25 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 31 Jan 2025 11:59:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 31 Jan 2026 12:00:00 GMT"}, 3600.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after-ms": "31536000000"}, 3600.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "Fri, 31 Jan 2025 12:00:30 GMT"}, None),
    ],
)
def test_the_wait_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
@pytest.mark.parametrize(
    "garbage",
    [
        *("", " ", "soon", "nan", "inf", "-inf", "1e999", "7 seconds", "0x10", "31 Jan", "\0", "\ud800"),
        *("Fri, 99 Foo 2025 99:99:99 GMT", "Fri, 31 Jan 99999 12:00:00 GMT", "," * 1_000),
        "Fri, 31 Jan 2025 12:00:00 +99999999",
    ],
)
def test_garbage_asks_for_nothing(name: str, garbage: str) -> None:
    assert read_retry_after({name: garbage}, now=NOW) is None


@pytest.mark.parametrize("date", ["Fri, 31 Jan 2025 12:00:30 -0000", "Fri, 31 Jan 2025 12:00:30"])
@pytest.mark.usefixtures("_in_tokyo")
def test_a_date_without_a_zone_is_not_read_in_the_zone_of_this_machine(date: str) -> None:
    assert read_retry_after({"retry-after": date}, now=NOW) == 30.0
