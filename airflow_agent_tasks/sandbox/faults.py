"""Rules that make the next matching requests fail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from airflow_agent_tasks.sandbox.strict_json import CheckedStrictly

_REFUSED_HEADERS = {"content-length", "transfer-encoding", "connection"}
#: HTTP does not allow a body in these responses, and a server that sends one breaks the connection.
BODILESS_STATUSES = frozenset({204, 205, 304})


class FaultRule(CheckedStrictly):
    """
    How the next matching requests fail.

    :param method: The HTTP method; default: any.
    :param path: A regular expression, searched in the path as sent; default: any.
    :param times: The number of requests; default 1.
    :param status: Respond with this HTTP status, without executing the request.
    :param headers: Headers of that response, such as ``Retry-After``.
    :param body: Respond with this text; by default with status 200 and as ``text/html``.
    :param body_bytes: Respond with this many bytes of filler instead.
    :param delay_seconds: Wait this long first, then apply the rest of the rule or execute the request.
    :param drop: When to cut the connection: ``before`` the request is executed, ``after`` that but before the
        response, or ``during`` the response, after half of its first chunk.
    """

    method: str | None = None
    path: str = ""
    times: Annotated[int, Field(ge=1)] = 1
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    headers: dict[str, str] | None = None
    body: str | None = None
    body_bytes: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    delay_seconds: Annotated[float, Field(ge=0)] | None = None
    drop: Literal["before", "after", "during"] | None = None

    @field_validator("path")
    @classmethod
    def _path_must_be_a_regular_expression(cls, path: str) -> str:
        try:
            re.compile(path)
        except re.error as exc:
            raise ValueError(f"{path!r} is not a regular expression: {exc}") from None
        return path

    @field_validator("headers")
    @classmethod
    def _headers_must_be_sendable(cls, headers: dict[str, str] | None) -> dict[str, str] | None:
        for name, value in (headers or {}).items():
            if name.lower() in _REFUSED_HEADERS:
                raise ValueError(f"{name} is set by the sandbox")
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[\t\x20-\x7e]*", value):
                raise ValueError(f"{name!r}: {value!r} cannot be sent as a header")
        return headers

    @model_validator(mode="after")
    def _must_do_one_thing(self) -> FaultRule:
        if self.drop is not None and self.replaces_response:
            raise ValueError("drop: a dropped request has no status or body; use two rules")
        if self.body is not None and self.body_bytes is not None:
            raise ValueError("body_bytes: set it or body, not both")
        if self.headers is not None and not self.replaces_response:
            raise ValueError("headers: they require a status, a body or body_bytes")
        if not self.replaces_response and self.drop is None and self.delay_seconds is None:
            raise ValueError("a rule needs one of status, body, body_bytes, delay_seconds, drop")
        return self

    @property
    def replaces_response(self) -> bool:
        """Whether a scripted response is sent instead of executing the request."""
        return not (self.status is None and self.body is None and self.body_bytes is None)

    def matches(self, method: str, path: str) -> bool:
        """Return whether the rule applies to a request."""
        return (self.method is None or self.method.upper() == method) and bool(re.search(self.path, path))


@dataclass
class _ActiveRule:
    rule: FaultRule
    times_left: int


class FaultRules:
    """The active rules; the oldest match applies first."""

    def __init__(self) -> None:
        self._active: list[_ActiveRule] = []

    def add(self, rules: list[FaultRule]) -> None:
        """Append rules to the active ones."""
        self._active += [_ActiveRule(rule, rule.times) for rule in rules]

    def take(self, method: str, path: str) -> FaultRule | None:
        """Return the rule for this request, and count its use."""
        for active in self._active:
            if active.rule.matches(method, path):
                active.times_left -= 1
                if not active.times_left:
                    self._active.remove(active)
                return active.rule
        return None

    def forget(self) -> None:
        """Drop all rules."""
        self._active.clear()
