"""Helpers of both mock services: the key check, body parsing and JSON responses."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import HTTPException, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_agent_tasks.sandbox.script import Script, ScriptError, ScriptRules, read_script
from airflow_agent_tasks.sandbox.strict_json import Checked, describe_mistakes, parse_json

_Body = TypeVar("_Body", bound=Checked)

#: For errors that the official Lightcone SDK would otherwise retry twice before it raises.
DO_NOT_RETRY = {"x-should-retry": "false"}


def require_key(key: str, *, extra_header: str | None = None) -> Callable[[Request], Awaitable[None]]:
    """
    Return a FastAPI dependency that responds with 401 unless the request carries the key.

    :param key: The key, expected as ``Authorization: Bearer <key>``.
    :param extra_header: A header that may carry the bare key instead.
    """
    expected = key.encode()

    async def check(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        offered = [given.strip()] if scheme.lower() == "bearer" else []
        if extra_header is not None:
            offered.append(request.headers.get(extra_header, ""))
        # Bytes, because compare_digest rejects non-ASCII text, and headers may contain Latin-1.
        if not any(hmac.compare_digest(one.encode(), expected) for one in offered):
            raise HTTPException(401, "The key is missing or wrong.", {"www-authenticate": "Bearer"})

    return check


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response, with non-ASCII escaped so that it can contain broken Unicode."""
    return Response(json.dumps(content), status, headers, media_type="application/json")


async def error_response(request: Request, exc: Exception) -> Response:
    """Respond with ``{"error": …}``: FastAPI's exception handler for ``HTTPException``."""
    assert isinstance(exc, StarletteHTTPException)  # noqa: S101 - it is registered for nothing else
    return json_response({"error": exc.detail}, exc.status_code, dict(exc.headers or {}))


async def read_body(
    request: Request, kind: type[_Body], *, error_status: int
) -> tuple[_Body, dict[str, Any]]:
    """
    Return the request's JSON object, validated and raw.

    :param request: The request.
    :param kind: The model of the body.
    :param error_status: The HTTP status for an invalid body.
    """
    try:
        raw = parse_json(await request.body())
        if not isinstance(raw, dict):
            raise HTTPException(error_status, f"The body must be a JSON object, not {type(raw).__name__}.")
        return kind.model_validate(raw), raw
    except ValidationError as exc:
        raise HTTPException(error_status, describe_mistakes(exc)) from None
    except ValueError as exc:
        raise HTTPException(error_status, f"The body is not JSON: {exc}") from None


def script_of(text: str, rules: ScriptRules, *, error_status: int) -> Script:
    """Return the script for ``text``; responds with ``error_status`` to an invalid one in its first line."""
    try:
        return read_script(text, rules)
    except ScriptError as exc:
        raise HTTPException(error_status, str(exc)) from None
