"""How a simulated worker loses its task."""

from __future__ import annotations


class WorkerLostError(BaseException):
    """The process is gone."""


class TimedOutError(BaseException):
    """Airflow's ``execution_timeout`` has passed."""


class DeferredError(BaseException):
    """The task waits in the triggerer."""


class ParkedError(BaseException):
    """The task waits for an answer."""
