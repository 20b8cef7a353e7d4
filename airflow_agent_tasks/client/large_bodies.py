"""
Limits the memory that large bodies take in a triggerer, for all connections of an event loop together.

They are received concurrently, so that a slow one does not block the others; only the bytes received count.
If these exceed the limit, all bodies wait except the largest, which soon ends and makes room.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from airflow_agent_tasks.services.http import MAX_BODY_BYTES

#: Total bytes of all bodies above which only the largest one is read further.
MOST_BYTES = MAX_BODY_BYTES

T = TypeVar("T")


class LargeBodies:
    """The large bodies that one event loop receives; get it with ``find_large_bodies``."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._has_ended = asyncio.Event()
        # One thread, because parsing takes up to four times the size of a body, and each thread keeps some of
        # that memory.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agent-tasks-large-bodies")

    @contextmanager
    def receive(self, body: bytearray) -> Iterator[None]:
        """Count a body until the block ends, then empty it; add the chunks that follow with ``add``."""
        self._sizes[id(body)] = len(body)
        try:
            yield
        finally:
            del self._sizes[id(body)]
            body.clear()  # the traceback of an error refers to it
            self._has_ended.set()
            self._has_ended = asyncio.Event()

    async def add(self, body: bytearray, chunk: bytes, ends_at: float) -> None:
        """Add a chunk as soon as there is room; raises TimeoutError if there is none before ``ends_at``."""
        while sum(self._sizes.values()) > MOST_BYTES and id(body) != max(
            self._sizes, key=self._sizes.__getitem__
        ):
            await asyncio.wait_for(self._has_ended.wait(), ends_at - monotonic())
        body += chunk
        self._sizes[id(body)] = len(body)

    async def parse(self, call: Callable[[], T], ends_at: float) -> T:
        """Call a function in a thread, one at a time; raises TimeoutError after ``ends_at``."""
        parsing = asyncio.get_running_loop().run_in_executor(self._thread, call)
        return await asyncio.wait_for(parsing, ends_at - monotonic())


def find_large_bodies() -> LargeBodies:
    """Return the large bodies of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loops:
        _of_loops[loop] = LargeBodies()
    return _of_loops[loop]


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LargeBodies] = weakref.WeakKeyDictionary()
