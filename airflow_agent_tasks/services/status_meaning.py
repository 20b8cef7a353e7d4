"""
What an HTTP status says about its request: whether it was executed, and whether to try again.

This is the only place that decides it. A start that was certainly not executed may be forgotten and sent
again; every doubt must be kept, or an agent task is started twice. So only a status that says "not executed"
counts as one: registered 4xx, and 503, which the services document as "agent unavailable". Everything else
that is no success may come from something between us and the service, after the service has done its work.

For a request without an effect (a status check, a pause, a resume, a cancel) a doubt does not matter, because
repeating it does no harm: it is sent again.

What happens to a request without any response is decided in the same terms: before it was sent it is
:attr:`Executed.NO`, afterwards :attr:`Executed.MAYBE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Executed(Enum):
    """Whether a service has carried out a request."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


@dataclass(frozen=True)
class StatusMeaning:
    """
    What a status says about its request.

    :param executed: Whether the service has carried it out.
    :param is_transient: True if another attempt may get past it.
    """

    executed: Executed
    is_transient: bool


#: The service did not execute the request, whatever it was, and may do so later.
LATER_PERHAPS = frozenset({408, 425, 429, 503})
#: The other 4xx that the IANA has registered: the service rejected the request.
REJECTIONS = frozenset({*range(400, 419), 421, 422, 423, 424, 426, 428, 431, 451}) - LATER_PERHAPS


def read_meaning(status: int) -> StatusMeaning:
    """Return what a status says, also one that no standard knows."""
    if 200 <= status < 300:
        return StatusMeaning(Executed.YES, is_transient=False)
    if status in LATER_PERHAPS:
        return StatusMeaning(Executed.NO, is_transient=True)
    if status in REJECTIONS:
        return StatusMeaning(Executed.NO, is_transient=False)
    # Only a redirect would be repeated for ever: the host of the connection is not the service's address.
    return StatusMeaning(Executed.MAYBE, is_transient=not 300 <= status < 400)
