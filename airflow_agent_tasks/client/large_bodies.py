"""
Limits what large bodies take of a triggerer's memory: one bound for all connections of an event loop.

They are received side by side, so that one that drips stops no other: only the bytes that are there count.
When these are too many, all bodies wait except the largest, which soon ends and makes room.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TypeVar

#: Bytes of all bodies beyond which only the largest one is read on.
MOST_BYTES = 32 * 1024 * 1024

T = TypeVar("T")


class LargeBodies:
    """The large bodies that one event loop receives; get it with :func:`find_large_bodies`."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._has_ended = asyncio.Event()
        #: Held while a body is unpacked and parsed, which takes up to four times its size.
        self._parsing = asyncio.Lock()

    @contextmanager
    def receive(self, body: bytearray) -> Iterator[None]:
        """Count a body until it is parsed; :meth:`add` the rest of it."""
        self._sizes[id(body)] = len(body)
        try:
            yield
        finally:
            del self._sizes[id(body)]
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
        """Call a function in a thread, one at a time; raises TimeoutError if it lasts longer."""
        await asyncio.wait_for(self._parsing.acquire(), ends_at - monotonic())
        parsing = asyncio.ensure_future(asyncio.to_thread(call))
        # Not when the caller has enough of it: no thread can be stopped.
        parsing.add_done_callback(partial(_end, self._parsing))
        return await asyncio.wait_for(asyncio.shield(parsing), ends_at - monotonic())


def find_large_bodies() -> LargeBodies:
    """Return the large bodies of the running event loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), LargeBodies())


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LargeBodies] = weakref.WeakKeyDictionary()


def _end(parsing: asyncio.Lock, call: asyncio.Future[T]) -> None:
    parsing.release()
    if not call.cancelled():
        call.exception()  # or asyncio logs one that nobody has waited for
