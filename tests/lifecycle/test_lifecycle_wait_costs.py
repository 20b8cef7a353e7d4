"""How many requests the growing wait sends, and how late it sees the end: the benchmark's own simulation."""

from __future__ import annotations

import pytest

from lab.benchmarks.simulate_polls import simulate


@pytest.mark.parametrize(("minutes", "share"), [(10, 0.55), (60, 0.27)])
def test_the_growing_wait_saves_requests_and_sees_the_end_in_time(minutes: int, share: float) -> None:
    fixed, growing = simulate(60.0 * minutes, 5.0), simulate(60.0 * minutes, None)
    assert growing.requests <= share * fixed.requests
    assert growing.late_beyond <= 2.0


def test_the_end_of_a_short_run_is_seen_in_time_too() -> None:
    assert simulate(60.0, None).late_beyond <= 2.0
