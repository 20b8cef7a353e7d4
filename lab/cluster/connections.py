"""How many connections to a server programs and everything they started have open. Linux only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import psutil  # type: ignore[import-untyped]

from lab.cluster.cpu_time import find_owners


def count_connections(port: int | None, leaders: Collection[int]) -> Counter[int]:
    """
    Return how many TCP connections to a port each program has.

    :param port: The server's port.
    :param leaders: The ids of the programs' first processes, each the leader of its session.
    """
    owners = find_owners(leaders)
    # By their own port, because a process that was forked has those of its parent too.
    found = {
        (owners[one.pid], one.laddr.port)
        for one in psutil.net_connections("tcp")
        if one.pid in owners and one.raddr and one.raddr.port == port
    }
    return Counter(leader for leader, _ in found)
