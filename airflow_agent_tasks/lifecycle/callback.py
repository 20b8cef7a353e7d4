"""The callback of an agent task: its service calls Airflow's API server, which wakes the Airflow task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from airflow_agent_tasks.lifecycle.commands import Command, Flow, ReadClock, info, warn_on_failure, warning
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.services.base import Dialect

#: Seconds for which a URL is valid: a day longer than the agent task may take, or 30 days without a limit.
AFTER_DEADLINE = 24 * 3600.0
WITHOUT_DEADLINE = 30 * 24 * 3600.0


class Callback(NamedTuple):
    """
    The URL of a callback.

    :param url: The URL.
    :param address: The URL for people, without its token.
    :param is_out_of_reach: True if the service surely cannot reach it.
    """

    url: str
    address: str
    is_out_of_reach: bool


class MakeCallback(Command[Callback], frozen=True):
    """
    Return the callback of a submission.

    :param idempotency_key: The submission's key.
    :param expires_at: When the URL becomes invalid, in seconds since 1970.
    """

    idempotency_key: str
    expires_at: float


def ask_for_callback(
    execution: Execution, service: Dialect, fields: Mapping[str, Any], submission: Submission
) -> Flow[tuple[Mapping[str, Any], Submission]]:
    """
    Complete a start with the URL of the callback that the user wants.

    :return: The start fields, and the record that says whether Airflow may rely on the callback.
    :raises AgentTaskConfigurationError: if no URL can be made.
    """
    if not service.wants_callback(fields):
        return fields, replace(submission, is_called_back=False)
    now, timeout = (yield from ReadClock()), execution.settings.timeout
    lifetime = WITHOUT_DEADLINE if timeout is None else timeout + AFTER_DEADLINE
    callback = yield from MakeCallback(submission.idempotency_key, now + lifetime)
    if callback.is_out_of_reach:
        yield from warning(
            "%s cannot reach %s, which exists only in your own network, so this task polls as without a "
            "callback. Set [agent_tasks] callback_base_url to an address of the API server that is reachable "
            "from outside.",
            service.title,
            callback.address,
        )
    else:
        yield from info("%s will call %s when the agent task changes.", service.title, callback.address)
    is_called_back = not callback.is_out_of_reach
    return service.put_callback_url(fields, callback.url), replace(submission, is_called_back=is_called_back)


def is_called_back(execution: Execution) -> Flow[bool]:
    """Return whether the service calls Airflow when the agent task changes."""
    # If the store cannot be read, polling is always right.
    submission = yield from warn_on_failure(execution.load())
    return bool(submission and submission.is_called_back)


def relies_on_callback(execution: Execution) -> Flow[bool]:
    """Return whether the trigger should check only in case a callback is lost."""
    settings = execution.settings
    # No call says that a budget has been passed.
    is_free = settings.poll_interval is None and not settings.budget
    return is_free and (yield from is_called_back(execution))
