"""
What an HTTP status says about its request: whether it was executed, and whether to try again.

No other module decides this. A start that was certainly not executed may be forgotten and sent again. If
there is any doubt, it must not be, or an agent task could be started twice. So only a status that definitely
means "not executed" counts as such: registered 4xx, and 503, which the services document as "agent
unavailable". Any other status except success may come from something between us and the service, after the
service has done its work.

For a request without an effect (a status check, a pause, a resume, a cancel), doubt does not matter:
repeating it is harmless, so it is sent again.

A request without a response is classified in the same way: ``Executed.NO`` until it is sent, then
``Executed.MAYBE``.
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
    The meaning of a status for its request.

    :param executed: Whether the service has carried out the request.
    :param is_transient: True if another attempt may succeed.
    """

    executed: Executed
    is_transient: bool


#: The service did not execute the request, but may do so later.
LATER_PERHAPS = frozenset({408, 425, 429, 503})
#: The other 4xx that the IANA has registered: the service rejected the request.
REJECTIONS = frozenset({*range(400, 419), 421, 422, 423, 424, 426, 428, 431, 451}) - LATER_PERHAPS


def read_meaning(status: int) -> StatusMeaning:
    """Return the meaning of a status, including statuses that no standard defines."""
    if 200 <= status < 300:
        return StatusMeaning(Executed.YES, is_transient=False)
    if status in LATER_PERHAPS:
        return StatusMeaning(Executed.NO, is_transient=True)
    if status in REJECTIONS:
        return StatusMeaning(Executed.NO, is_transient=False)
    # A redirect would be repeated forever: the host of the connection is not the service's address.
    return StatusMeaning(Executed.MAYBE, is_transient=not 300 <= status < 400)
