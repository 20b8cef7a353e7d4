"""Keeps failures of the telemetry away from the work that it observes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
#: What has failed in this process. Logged once each: thousands of equal lines would help nobody.
_logged: set[str] = set()


@contextmanager
def swallowed_failures(what: str) -> Iterator[None]:
    """
    Swallow every failure of the block, and log the first one in this process.

    :param what: What the block sends, such as ``metrics``.
    """
    try:
        yield
    except Exception as error:
        if what not in _logged:
            _logged.add(what)
            log.warning("Could not send %s of agent tasks; this is logged once: %r", what, error)
