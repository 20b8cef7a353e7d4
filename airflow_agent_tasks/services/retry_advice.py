"""Reads how long a service asks us to wait before a retry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime

#: Maximum number of seconds of a ``Retry-After``: a service must not block us for days.
MAX_RETRY_AFTER = 3600.0


def read_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """
    Return the seconds that the service asks us to wait, or None.

    Reads ``retry-after-ms`` (milliseconds), then ``Retry-After`` as seconds or as a date.

    :param headers: The response headers, with names in lower case.
    :param now: The current time in seconds since 1970, to subtract from a date.
    """
    seconds = _read_number(headers.get("retry-after-ms"), scale=0.001)
    if seconds is None:
        seconds = _read_number(headers.get("retry-after"))
    if seconds is None:
        seconds = _read_date(headers.get("retry-after"), now)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _read_number(text: str | None, scale: float = 1.0) -> float | None:
    try:
        number = float(text) * scale if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _read_date(text: str | None, now: float) -> float | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        # A date without a time zone would be read in this machine's; HTTP dates are always in GMT.
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() - now
    except (ValueError, OverflowError):
        return None
