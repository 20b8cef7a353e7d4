"""Whose turn it is to ask, where a connection bounds how many may."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class Turns:
    """
    Lets so many ask at a time, and so many a second, and the one first that has not asked for longest.

    :param at_once: How many may ask at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._gap = 0.0
        self._under_way = 0
        self._next_at = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, per_second: float | None) -> None:
        """Let so many begin to ask in a second from now on; None for no limit."""
        self._gap = 1.0 / per_second if per_second else 0.0
        self.forgo()

    def forgo(self) -> None:
        """Let the next one follow at once, because nothing is asked in this turn."""
        if self._timer:
            self._timer.cancel()
        self._on_time()

    async def take(self, since: float) -> None:
        """
        Wait for a turn, which has to be given back.

        :param since: Since when nothing was asked, on a clock that all share; the earliest goes first.
        """
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (since, next(self._number), turn))
        self._go_on()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # called and cancelled in the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        """End a turn."""
        self._under_way -= 1
        self._go_on()

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._under_way < self._at_once and self._timer is None:
            now = loop.time()
            if self._next_at > now:
                self._timer = loop.call_at(self._next_at, self._on_time)
                return
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                self._under_way += 1
                self._next_at = now + self._gap

    def _on_time(self) -> None:
        self._timer = None
        # A timer may ring early by the clock's resolution, and would be set again and again.
        self._next_at = 0.0
        self._go_on()
