"""Pins service and contender to separate processors, so that they do not disturb each other."""

from __future__ import annotations

import os
import platform

from lab.cluster.processes import Program

#: The processors that we may use; empty if the system cannot pin a process.
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(program: Program, place: int) -> None:
    """Pin a program that was just started to our first or second processor, if there are two."""
    if len(PROCESSORS) > 1:
        os.sched_setaffinity(program.leader.pid, {PROCESSORS[place]})


def describe_processors() -> str:
    """Describe Python, the load, the processors, and whether service and contender have one each."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    start = f"{python}, load {os.getloadavg()[0]:.1f} before the start"
    if len(PROCESSORS) > 1:
        places = f"{len(PROCESSORS)} usable processors; the service and each contender have one of their own"
    else:
        count = len(PROCESSORS) or os.cpu_count()
        places = (
            f"usable processors: {count}; service and contender are NOT kept apart and disturb each other"
        )
    return f"{start}, {places}"
