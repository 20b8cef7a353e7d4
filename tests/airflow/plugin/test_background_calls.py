"""Threads for calls that may hang: how many, and for whom they wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from airflow_agent_tasks.plugin.background_calls import THREAD_NAME, BackgroundCalls
from lab.cluster.processes import wait_until


@pytest.fixture
def hanging() -> Iterator[Any]:
    """A call that hangs until the test is over."""
    is_over = threading.Event()

    def hang() -> None:
        is_over.wait(60)

    yield hang
    is_over.set()


def count_threads() -> int:
    return sum(thread.name == THREAD_NAME for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_no_more_threads_run_than_there_are_to_be_and_none_is_left(threads: int, hanging: Any) -> None:
    calls = BackgroundCalls(threads)
    before = count_threads()
    done = threading.Event()
    for _ in range(threads - 1):
        calls.start(hanging)
    for _ in range(50):
        calls.start(lambda: None)
    calls.start(done.set)  # type: ignore[arg-type] - it returns None
    assert done.wait(20)
    assert wait_until(lambda: count_threads() - before == threads - 1, timeout=20)


def test_those_of_one_do_not_wait_for_those_of_another(hanging: Any) -> None:
    silent, healthy = BackgroundCalls(4), BackgroundCalls(4)
    for _ in range(20):
        silent.start(hanging)
    done = threading.Event()
    healthy.start(done.set)  # type: ignore[arg-type]
    assert done.wait(20)


def test_a_call_that_waits_to_be_called_again_keeps_no_thread() -> None:
    calls = BackgroundCalls(1)
    seen: list[str] = []
    done = threading.Event()

    def wait(seconds: list[float]) -> float | None:
        seen.append("again" if seconds else "at last")
        if not seconds:
            done.set()
        return seconds.pop() if seconds else None

    calls.start(partial(wait, [0.2, 0.2]))
    for _ in range(3):
        calls.start(lambda: seen.append("another"))
    assert done.wait(20)
    assert seen == ["again", "another", "another", "another", "again", "at last"]


def test_a_call_that_fails_takes_no_thread_with_it(caplog: Any) -> None:
    calls = BackgroundCalls(1)
    done = threading.Event()

    def fail() -> None:
        raise ValueError("not today")

    for _ in range(3):
        calls.start(fail)
    calls.start(done.set)  # type: ignore[arg-type]
    assert done.wait(20)
    assert caplog.messages == ["A background call failed"] * 3


def test_a_call_that_comes_as_the_last_thread_ends_is_made() -> None:
    calls = BackgroundCalls(1)
    for _ in range(500):
        done = threading.Event()
        calls.start(done.set)  # type: ignore[arg-type]
        assert done.wait(20)


def test_a_thread_that_cannot_start_takes_no_place(monkeypatch: Any) -> None:
    calls = BackgroundCalls(1)
    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _fail)
        with pytest.raises(RuntimeError):
            calls.start(lambda: None)
    calls.start(done.set)  # type: ignore[arg-type]
    assert done.wait(20)


def _fail(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
