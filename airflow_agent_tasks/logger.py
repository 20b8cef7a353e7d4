"""What this package needs of a logger; Airflow's task loggers and the standard library's both have it."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """The part of Airflow's loggers that is used here."""

    def info(self, event: str, /, *args: Any) -> Any: ...
    def warning(self, event: str, /, *args: Any) -> Any: ...
