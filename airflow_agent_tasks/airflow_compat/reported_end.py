"""
Tells whether Airflow has accepted the end of an execution, which it reports after ``execute``.

Airflow only logs a refusal, as when someone has marked the task failed in the meantime. Asking it for the
task's state instead would be one more request in each execution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Airflow's messages that end an execution whose agent task goes on or has delivered its result.
_REPORTS = ("DeferTask", "SucceedTask")


class _Channel:
    """
    Airflow's channel to the supervisor, until the end of the execution has been reported.

    :param channel: Airflow's channel.
    :param on_report: Called with whether Airflow has accepted the report.
    """

    def __init__(self, channel: Any, on_report: Callable[[bool], None]) -> None:
        self._channel = channel
        self._on_report = on_report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def send(self, msg: Any) -> Any:
        """Send a message, and tell how the report went."""
        if type(msg).__name__ not in _REPORTS:
            return self._channel.send(msg)
        try:
            response = self._channel.send(msg)
        except Exception:
            self._end(is_accepted=False)
            raise
        self._end(is_accepted=True)
        return response

    def _end(self, *, is_accepted: bool) -> None:
        from airflow.sdk.execution_time import task_runner

        task_runner.SUPERVISOR_COMMS = self._channel
        self._on_report(is_accepted)


def watch_reported_end(on_report: Callable[[bool], None]) -> None:
    """
    Call this once Airflow has accepted (True) or refused (False) the deferral or the success of the task.

    :param on_report: Must not raise.
    """
    # Imported here: every DAG file imports this module, and only a worker has a channel.
    from airflow.sdk.execution_time import task_runner

    if channel := getattr(task_runner, "SUPERVISOR_COMMS", None):
        task_runner.SUPERVISOR_COMMS = _Channel(channel, on_report)  # type: ignore[assignment]
