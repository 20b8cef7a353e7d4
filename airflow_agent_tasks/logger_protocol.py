"""The logger interface of this package; Airflow's task loggers and the standard library's both match it."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """The methods of a logger that this package calls."""

    def info(self, event: str, /, *args: Any) -> Any: ...
    def warning(self, event: str, /, *args: Any) -> Any: ...
    def error(self, event: str, /, *args: Any) -> Any: ...
