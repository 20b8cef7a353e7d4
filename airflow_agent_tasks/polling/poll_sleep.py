"""The sleep between two polls of a task, of which ten thousand others share the event loop."""

from __future__ import annotations

import asyncio
import random

#: An event loop that is later than this, in seconds, has stood still, as in a full garbage collection.
STALL = 0.2


async def sleep_until_poll(seconds: float) -> None:
    """
    Sleep; if the event loop stood still when the time was over, up to as long again.

    Otherwise, all polls that came due meanwhile would be sent at once: they would hold up the event loop
    further, and after a long freeze of the machine, the service would get thousands.

    :param seconds: How long to sleep. The spread is at most as long.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    await asyncio.sleep(seconds)
    late = loop.time() - due
    if late > STALL:
        await asyncio.sleep(min(late, seconds) * random.random())  # noqa: S311
