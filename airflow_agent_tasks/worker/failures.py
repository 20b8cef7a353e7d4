"""What a failure leaves: a line in the log, the XCom ``error``, and an exception that Airflow understands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout

from airflow_agent_tasks.documentation import link_error
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.outcome import describe_retry
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.text import shorten
from airflow_agent_tasks.worker.xcoms import XComs

#: The most characters of a failure in the log and in XCom.
MAX_ERROR = 4_000


@contextmanager
def reported_failures(task_instance: Any, log: Log, *, pushes_xcoms: bool) -> Iterator[None]:
    """
    Write why an Airflow task fails, and whether Airflow tries again, to its log and to XCom; raises the same.

    :param task_instance: The Airflow task instance.
    :param log: The task's log.
    :param pushes_xcoms: The operator's ``do_xcom_push``.
    """
    try:
        yield
    except AgentTaskError as error:
        ti = task_instance
        retry = describe_retry(error, try_number=ti.try_number, max_tries=ti.max_tries)
        # Without a traceback: Airflow logs one below.
        log.error("%s See %s", shorten(f"{error} {retry}", MAX_ERROR), link_error(type(error)))  # noqa: TRY400
        xcoms, reason = XComs(ti, log, is_wanted=pushes_xcoms), shorten(str(error), MAX_ERROR)
        try:
            xcoms.push_error(reason)
        except AirflowTaskTimeout:
            # Airflow's alarm, which rings once: it would take the place of the failure that is known.
            xcoms.push_error(reason)
        raise


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
