"""How long each execution of a task occupied a slot of its Celery worker, from the worker's log. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

_STARTED = re.compile(
    r"\[(?P<celery>[0-9a-f-]{36})\] Executing workload in Celery: .*?"
    r"\bti=\w+\(.*?id=UUID\('(?P<id>[0-9a-f-]+)'\).*?run_id='(?P<run>[^']*)'"
)
_ENDED = re.compile(r"Task execute_workload\[(?P<celery>[0-9a-f-]{36})\] succeeded in (?P<seconds>[\d.]+)s")


class SlotTimes(NamedTuple):
    """
    Seconds that the executions of a run's tasks occupied a slot.

    :param first: Of each first execution, until the task deferred.
    :param later: Of each later one: the resumes.
    """

    first: list[float]
    later: list[float]


def read_slot_times(lines: Iterable[str]) -> dict[str, SlotTimes]:
    """
    Return the times of the executions that have ended, by the id of their run.

    :param lines: The logs of the workers, each from its beginning.
    """
    started: dict[str, re.Match[str]] = {}
    executions: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for line in lines:
        if found := _STARTED.search(line):
            started[found["celery"]] = found
        elif (ended := _ENDED.search(line)) and (begin := started.get(ended["celery"])):
            # The line begins with the time, in a format in which the order of texts is that of times.
            moment = begin.string.split(" ", 1)[0]
            executions[begin["run"], begin["id"]].append((moment, float(ended["seconds"])))
    times: dict[str, SlotTimes] = defaultdict(lambda: SlotTimes([], []))
    for (run_id, _), of_task in executions.items():
        (_, first), *later = sorted(of_task)
        times[run_id].first.append(first)
        times[run_id].later.extend(seconds for _, seconds in later)
    return dict(times)


def count_open_executions(lines: Iterable[str]) -> int:
    """Return the number of executions in the logs of workers that have begun and not ended."""
    begun: set[str] = set()
    for line in lines:
        if found := _STARTED.search(line):
            begun.add(found["celery"])
        elif found := _ENDED.search(line):
            begun.discard(found["celery"])
    return len(begun)
