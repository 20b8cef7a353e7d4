"""
What is measured about an agent task: counters, and periods that become timers and spans.

Measurements are commands, so the flow yields them where things happen. Code outside of the flow passes them
to the same reporter. The names are those of ``docs/reference/metrics.md``, without the prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.commands import Command, Flow
from airflow_agent_tasks.lifecycle.question_log import REPLY_ID, Question, Questions
from airflow_agent_tasks.services.usage import BUDGET_NAMES, find_spent

#: A larger number is a mistake of the service; it would spoil the sum of all others.
MAX_USAGE = 1e12
#: A longer period, in seconds, comes from a wrong timestamp.
MAX_PERIOD = 10 * 365 * 86_400.0


class Measurement(Command[None], frozen=True):
    """
    Base class of all measurements. Performing one never fails.

    :param name: The name of the metric, without its prefix.
    """

    name: str


class Count(Measurement, frozen=True):
    """
    Add to a counter.

    :param value: The number to add. Default 1.
    :param tag: The name and value of a tag that divides the counter, such as the state; None for no tag.
    """

    value: float = 1
    tag: tuple[str, str] | None = None


class Time(Measurement, frozen=True):
    """
    Report a period that has ended.

    :param began_at: In seconds since 1970.
    :param ended_at: In seconds since 1970.
    """

    began_at: float
    ended_at: float


def report(measurements: Iterable[Measurement]) -> Flow[None]:
    """Yield the measurements as commands of a flow."""
    for measurement in measurements:
        yield from measurement


def measure_start(task: AgentTask) -> Measurement:
    """Return the measurement of a start; a known idempotency key finds an earlier agent task."""
    return Count("attached" if task.reused else "submitted")


def measure_stop(task: AgentTask, before: AgentTask | None) -> Iterator[Measurement]:
    """
    Yield the measurements of an agent task after a stop.

    :param before: The agent task as last seen before; the response to a stop reports no usage.
    """
    if task.status in (TaskState.CANCELLED, TaskState.PAUSED):
        yield Count("stops")
    # A completed one counts when its result is delivered; one that still runs has not finished.
    if task.is_stopped and task.status is not TaskState.COMPLETED:
        yield Count("finished", tag=("state", task.status.value))
        yield from _measure_usage(task if task.usage else before)


def measure_failure(error: AgentTaskError) -> Measurement:
    """Return the measurement of a failed Airflow task; the kind is the error class in snake case."""
    name = type(error).__name__.removeprefix("AgentTask").removesuffix("Error")
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return Count("failed", tag=("kind", kind or "other"))


def measure_end(
    task: AgentTask, questions: Questions, *, submitted_at: float, now: float
) -> Iterator[Measurement]:
    """
    Yield the measurements of an agent task that has ended.

    :param questions: The questions of its submission record.
    :param submitted_at: When it was submitted by this worker's clock, in seconds since 1970.
    :param now: When its end was seen, in seconds since 1970.
    """
    yield Count("finished", tag=("state", task.status.value))
    created, started, completed = map(parse_time, (task.created_at, task.started_at, task.completed_at))
    if created is not None and started is not None:
        yield from _measure_period("queued_duration", created, started)
    if started is not None and completed is not None:
        yield from _measure_period("running_duration", started, completed)
    else:
        # Never one timestamp of the service and one of ours: their clocks may differ.
        yield from _measure_period("running_duration", submitted_at, now)
    for question in questions.items:
        yield from _measure_wait(question, now)
    yield from _measure_usage(task)


def _measure_period(name: str, began_at: float, ended_at: float) -> Iterator[Measurement]:
    if 0.0 <= ended_at - began_at <= MAX_PERIOD:
        yield Time(name, began_at, ended_at)


def _measure_wait(question: Question, now: float) -> Iterator[Measurement]:
    if question.reply is None or question.reply.answered_by["id"] != REPLY_ID:
        ended_at = question.asked_at + question.seconds_waited(now)
        yield from _measure_period("awaiting_input_duration", question.asked_at, ended_at)


def parse_time(text: Any) -> float | None:
    """Return a timestamp of the service in seconds since 1970, or None if it is missing or unreadable."""
    if not isinstance(text, str) or len(text) > 40:
        return None
    # Python 3.10 reads neither a Z nor a fraction of other than three or six digits.
    whole = re.sub(r"\.\d+", "", text).replace("Z", "+00:00")
    fraction = re.search(r"\.\d+", text)
    try:
        found = datetime.fromisoformat(whole)
        seconds = (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
    except ValueError:
        return None
    return seconds + (float(fraction[0]) if fraction else 0.0)


def read_usage_numbers(task: AgentTask | None) -> dict[str, float]:
    """
    Return what an agent task has used, by the names of a budget.

    A fixed set of names, because each new name would be a new metric, and the service chooses its own.
    """
    spent = {name: find_spent(task, name) for name in BUDGET_NAMES} if task else {}
    return {name: number for name, number in spent.items() if number is not None and 0 < number <= MAX_USAGE}


def _measure_usage(task: AgentTask | None) -> Iterator[Measurement]:
    for name, number in read_usage_numbers(task).items():
        yield Count(f"usage.{name}", number)
