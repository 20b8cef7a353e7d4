"""The agent tasks of the run: what each agent does, and how its Airflow task must end. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The exit code of the agents that fail. Shinzo has none: its tasks are retried, Lightcone's are not.
EXIT_CODE = 3
QUESTION = "Which?"
_NUMBER = re.compile(r"This is number (\d+)\.")


@dataclass(frozen=True)
class Kind:
    """
    A kind of agent.

    :param name: Its name in the tables.
    :param duration: How long the agent works, as a multiple of the ordinary duration.
    :param script: What else the sandbox's agent does.
    :param end: The state in which its Airflow task must end.
    """

    name: str
    duration: float = 1.0
    script: Mapping[str, Any] | None = None
    end: str = "success"


ORDINARY = Kind("ordinary")
FAILING = Kind("failing", 0.2, {"exit_code": EXIT_CODE}, end="failed")
ASKING = Kind("asking", 1.0, {"ask": [QUESTION]})
SLOW = Kind("slow", 3.0)
#: The kinds take turns in this order: of ten agents one fails, two ask, and one is slow.
KINDS = (ORDINARY, ASKING, ORDINARY, FAILING, ORDINARY, ORDINARY, SLOW, ASKING, ORDINARY, ORDINARY)
SERVICES = ("lightcone", "shinzo")


@dataclass(frozen=True)
class PlannedTask:
    """
    One agent task.

    :param number: Its number, which its agent knows.
    :param kind: What its agent does.
    :param seconds: The duration of an ordinary agent in seconds.
    """

    number: int
    kind: Kind
    seconds: float

    @property
    def service(self) -> str:
        """The service that runs the agent; they take turns."""
        return SERVICES[self.number % len(SERVICES)]

    @property
    def result(self) -> Any:
        """The result that must arrive in XCom; Lightcone's status has none."""
        return {"number": self.number} if self.service == "shinzo" else None

    @property
    def reply(self) -> str:
        """The answer to its agent's question."""
        return f"Number {self.number}."

    @property
    def instruction(self) -> str:
        """The instruction for its agent, whose first line is a script for the sandbox."""
        script = {
            "steps": 4,
            "step_seconds": self.seconds * self.kind.duration / 4,
            "result": {"number": self.number},
            **(self.kind.script or {}),
        }
        return f"#sandbox {json.dumps(script)}\nThis is number {self.number}."


def plan_tasks(count: int, seconds: float, kinds: Sequence[Kind] = KINDS) -> list[PlannedTask]:
    """
    Return the plan of the tasks with the numbers from 0; each service gets each kind.

    :param count: The number of tasks.
    :param seconds: The duration of an ordinary agent in seconds.
    :param kinds: The kinds, which take turns.
    """
    return [
        PlannedTask(number, kinds[number // len(SERVICES) % len(kinds)], seconds) for number in range(count)
    ]


def split_plan(plan: Sequence[PlannedTask], parts: int) -> list[list[PlannedTask]]:
    """Return consecutive parts of a plan, each of which begins with a task of the first service."""
    size = -(-len(plan) // (parts * len(SERVICES))) * len(SERVICES)
    return [list(plan[part * size : (part + 1) * size]) for part in range(parts)]


def find_number(service: str, map_index: int) -> int:
    """Return the number of the task that is this one of its service's mapped tasks."""
    return map_index * len(SERVICES) + SERVICES.index(service)


def read_number(instruction: str) -> int:
    """
    Return the number of the task to which an instruction belongs.

    :raises ValueError: It is not an instruction of a planned task.
    """
    if found := _NUMBER.search(instruction):
        return int(found[1])
    raise ValueError(f"not the instruction of a planned task: {instruction!r}")
