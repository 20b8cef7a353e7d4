"""At most so many requests a second."""

from __future__ import annotations


class Pacer:
    """
    Hands out moments that lie far enough apart, first come first served.

    :param requests_per_second: The limit; None for none.
    """

    def __init__(self, requests_per_second: float | None) -> None:
        self._gap = 1.0 / requests_per_second if requests_per_second else 0.0
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Return the seconds to wait before the next request may be sent, and take that moment."""
        moment = max(now, self._next)
        self._next = moment + self._gap
        return moment - now
