"""What happens in a simulated life."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import (
    AgentTaskError,
    AgentTaskNotFoundError,
    AgentTaskRejectedError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.services.base import Dialect


@dataclass(frozen=True)
class Failure:
    """
    A command that fails.

    :param command: The name of its class.
    :param first: Which of these commands fails first, from 1.
    :param times: How many fail.
    :param status: The HTTP status with which the service rejects it; None where it is not available.
    """

    command: str
    first: int = 1
    times: int = 1
    status: int | None = None

    def build_error(self) -> AgentTaskError:
        if self.status == 404:
            return AgentTaskNotFoundError(f"{self.command} is answered 404", status=404)
        if self.status is not None:
            return AgentTaskRejectedError(f"{self.command} is rejected", status=self.status)
        return AgentTaskUnavailableError(f"{self.command} fails")


@dataclass(frozen=True)
class Script:
    """
    What happens in a life, apart from interruptions.

    :param service: The service.
    :param settings: The operator's arguments other than the defaults.
    :param work: Seconds of work before each question and before the end.
    :param questions: What each agent task asks, one after the other.
    :param people: ``answers``, ``stops`` (the agent, at the last question) or ``silent``; or ``empty`` or
        ``elsewhere``, where the first reply has no text, or is given in the form of another question; or
        ``on the service``, where each reply is given.
    :param ends: How each agent task ends that is started, the last one for all later ones.
    :param exit_code: The exit code of the last end.
    :param retries: Of the Airflow task.
    :param downtime: Seconds between the loss of a worker and the next try.
    :param outage: Seconds since the beginning, from and to, in which the service answers no status check.
    :param lost_answers: Requests (``start``, ``message``) that work once but whose answer is lost.
    :param failures: Commands that fail.
    :param full: How often all slots of the connection are taken when the task asks for one.
    :param has_triggerer: False where no triggerer is alive: a deferral ends by its own timeout.
    :param has_plugin: False where the API server has no plugin for the form.
    :param has_form_per_try: True as on Airflow 3.4: each try has a form of its own. On 3.3 it survives tries.
    :param stream: What the event stream does with ``stream``: ``whole``, ``breaks``, ``stalls``, or
        ``no completion``.
    :param calls: How often or when the service calls Airflow about each change: ``once``, ``twice``,
        ``early`` (and once more in time), ``late``, ``never``, or ``out of reach``. Empty without callbacks.
    :param most_checks: How many status checks the life takes at most if nothing interrupts it.
    :param most_delay: Seconds from the agent's end to that of the Airflow task at most, likewise.
    :param end: How the Airflow task ends.
    :param other_end: How else, where an interruption gives the agent the time to complete.
    """

    service: Dialect
    settings: Mapping[str, Any] = field(default_factory=dict)
    work: float = 9.0
    questions: tuple[str, ...] = ()
    people: str = "answers"
    ends: tuple[TaskState, ...] = (TaskState.COMPLETED,)
    exit_code: int | None = None
    retries: int = 4
    downtime: float = 3.0
    outage: tuple[float, float] = (0.0, 0.0)
    lost_answers: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    full: int = 0
    has_triggerer: bool = True
    has_plugin: bool = True
    has_form_per_try: bool = False
    stream: str = "whole"
    calls: str = ""
    most_checks: float = math.inf
    most_delay: float = math.inf
    end: str = "success"
    other_end: str = ""


@dataclass(frozen=True)
class Interruption:
    """
    Something that happens at one command of a life.

    :param kind: ``crash`` (the worker is gone), ``timeout`` (Airflow's ``execution_timeout``), ``clear`` or
        ``kill`` (a user marks the task, or its run ends).
    :param command: Its number, from 1.
    :param is_after: True where the command was carried out, but nobody got its result.
    """

    kind: str
    command: int
    is_after: bool


#: A user clears the Airflow task once it has ended, however it did.
CLEAR_AFTER_THE_END = Interruption("clear", 0, is_after=True)
