"""Which failures are worth another try, and how long a service asks us to stay away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime

#: The service did not do the work and may do it later, whatever the request was.
REFUSED_FOR_NOW = frozenset({408, 429})
#: A longer ``Retry-After`` than this is taken for a mistake: a service must not park us for days.
MAX_RETRY_AFTER = 3600.0


def is_transient_status(status: int) -> bool:
    """Return True for the statuses that may be gone a moment later: 408, 429 and all from 500 up."""
    return status in REFUSED_FOR_NOW or status >= 500


def leaves_doubt(status: int) -> bool:
    """Return True for failures after which the work may have been done all the same: 5xx but 503."""
    return status >= 500 and status != 503


def read_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """
    Return the seconds that the service asks us to wait, or None where it does not say.

    Reads ``retry-after-ms`` (milliseconds), then ``Retry-After`` as seconds or as a date.

    :param headers: The reply's headers, names in lower case.
    :param now: Seconds since 1970, to read a date against.
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
        # A date without a zone would be read in the zone of this machine; HTTP dates are all in GMT.
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() - now
    except (ValueError, OverflowError):
        return None
