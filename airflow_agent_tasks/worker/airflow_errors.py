"""Error mapping: from our errors to Airflow's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_agent_tasks.errors import AgentTaskError


@contextmanager
def airflow_failures() -> Iterator[None]:
    """
    Pass our errors on to Airflow without the frames and causes below, which mean nothing to a user.

    :raises AgentTaskError: what was raised, as :func:`build_airflow_failure` returns it.
    """
    try:
        yield
    except AgentTaskError as error:
        raise build_airflow_failure(error) from None


def build_airflow_failure(
    error: AgentTaskError, airflow_class: type[BaseException] | None = None
) -> AgentTaskError:
    """
    Return an error that Airflow understands and that still is ours: callbacks get it, with its ``task``.

    :param error: Our error.
    :param airflow_class: What it is for Airflow; default AirflowFailException for what would fail again on a
        retry, so that Airflow makes none, and nothing in particular for all else.
    """
    if airflow_class is None:
        if not error.is_final:
            return error.with_traceback(None)
        airflow_class = AirflowFailException
    combined = _combine(type(error), airflow_class)
    failure = combined.__new__(combined, *error.args)
    failure.__dict__.update(error.__dict__)
    return failure


def _combine(ours: type[AgentTaskError], airflows: type[BaseException]) -> type[AgentTaskError]:
    return type(ours.__name__, (ours, airflows), {"__module__": ours.__module__, "__doc__": ours.__doc__})
