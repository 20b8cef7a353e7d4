"""Parses untrusted JSON strictly, and describes each error by the name of its field."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

SHOWN_CHARACTERS = 80
SHOWN_MISTAKES = 3


class Checked(BaseModel):
    """Base of all bodies: types are strict ("5" is not a number), unknown keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class CheckedStrictly(Checked):
    """A body that rejects unknown keys, because they are the caller's typos."""

    model_config = ConfigDict(extra="forbid")


def parse_json(text: bytes | str) -> Any:
    """
    Read JSON without Python's extensions.

    :raises ValueError: if it is not JSON. ``NaN`` and ``Infinity`` are not JSON either: no response could
        contain them.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def describe_mistakes(error: ValidationError) -> str:
    """Return the errors on one line, each starting with the field's name."""
    mistakes = [_describe(dict(mistake)) for mistake in error.errors(include_url=False)]
    more = len(mistakes) - SHOWN_MISTAKES
    return "; ".join(mistakes[:SHOWN_MISTAKES]) + (f"; and {more} more" if more > 0 else "")


def _describe(mistake: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "missing":
        return f"{field}: required, but missing"
    if mistake["type"] == "extra_forbidden":
        return f"{field}: no such key"
    if mistake["type"] == "value_error":
        problem = str(mistake["ctx"]["error"])
    else:
        problem = f"{mistake['msg']}, not {_shorten(repr(mistake['input']))}"
    return f"{field}: {problem}" if field else problem


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
