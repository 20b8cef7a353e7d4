"""Pins service and contender to separate processors, so that they do not disturb each other."""

from __future__ import annotations

import os

from lab.cluster.processes import Program

#: The processors that we may use; empty if the system cannot pin a process.
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(program: Program, place: int) -> None:
    """Pin a program that was just started to our first or second processor, if there are two."""
    if len(PROCESSORS) > 1:
        os.sched_setaffinity(program.leader.pid, {PROCESSORS[place]})


def describe_processors() -> str:
    """Describe the processors that we may use, and whether service and contender have one each."""
    if len(PROCESSORS) > 1:
        return f"{len(PROCESSORS)} usable processors; the service and each contender have one of their own"
    count = len(PROCESSORS) or os.cpu_count()
    return f"usable processors: {count}; service and contender are NOT kept apart and disturb each other"
