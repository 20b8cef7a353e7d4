"""The thread of an API server that has the slots of connections shared while tasks wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_agent_tasks.plugin.slot_clock import INTERVAL, SlotClock


@contextmanager
def wait_for_threads(name: str) -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)


def test_the_clock_makes_rounds_until_nobody_waits() -> None:
    rounds, waits = iter([True, RuntimeError(), True, False, False]), []

    def make_round() -> bool:
        outcome = next(rounds)
        if isinstance(outcome, Exception):
            raise outcome
        if len(waits) == 4:
            clock.start()  # an order, while it finds that nobody waits
        return bool(outcome)

    clock = SlotClock(make_round, waits.append)
    with wait_for_threads("agent-task-slots"):
        clock.start()
    assert waits == [INTERVAL] * 5
    assert list(rounds) == []
