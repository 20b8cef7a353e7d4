"""Reports a failure: in the log, in XCom ``error``, and as an exception that Airflow understands."""

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

#: Maximum number of characters of a failure in the log and in XCom.
MAX_ERROR = 4_000


@contextmanager
def reported_failures(task_instance: Any, log: Log, *, pushes_xcoms: bool) -> Iterator[None]:
    """
    Log why the Airflow task fails and whether Airflow retries it, push the reason to XCom, and re-raise.

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
            # Airflow's execution_timeout passed during the push; it fires only once. Push again, and re-raise
            # the failure rather than the timeout.
            xcoms.push_error(reason)
        raise


@contextmanager
def airflow_failures() -> Iterator[None]:
    """
    Pass our errors on to Airflow without the frames and causes below, which do not help users.

    :raises AgentTaskError: the error that was raised, as :func:`build_airflow_failure` converts it.
    """
    try:
        yield
    except AgentTaskError as error:
        raise build_airflow_failure(error) from None


def build_airflow_failure(
    error: AgentTaskError, airflow_class: type[BaseException] | None = None
) -> AgentTaskError:
    """
    Return an error that is also an exception of Airflow; callbacks get it, with its ``task``.

    :param error: Our error.
    :param airflow_class: The exception class of Airflow. Default: AirflowFailException for a final error,
        which Airflow then does not retry; none for other errors.
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
