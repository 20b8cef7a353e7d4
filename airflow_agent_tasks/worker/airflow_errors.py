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

    :raises AirflowFailException: for what would fail again on a retry, so that Airflow makes none.
    """
    try:
        yield
    except AgentTaskError as error:
        if error.is_final:
            raise AirflowFailException(str(error)) from None
        raise error.with_traceback(None) from None
