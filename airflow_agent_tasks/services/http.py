"""A request to build, a reply to read, and the bounds of both."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.text import shorten

#: Replies larger than this are not read on: a broken or hostile service must not fill a worker's memory.
MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_ID_LENGTH = 256

#: What may stand in a path segment as it is (RFC 3986, ``pchar``), as in the official SDK.
_SAFE_IN_ID = "!$&'()*+,;=:@"

#: What to say of a request that acts and was left without a usable answer.
MAY_HAVE_ACTED = "The request may have been carried out: look at the service before you send it again."

#: What Airflow's processes can hand to each other (msgpack carries 64 bits).
MAX_INTEGER = 2**63 - 1
# PostgreSQL refuses U+0000 and msgpack refuses a lone surrogate.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
#: Keys by which Airflow's serializer marks objects: it refuses them, or lets a reader build what they name.
_RESERVED_KEYS = frozenset({"__classname__", "__id__", "__type", "__var", "__version__", "__data__"})
#: Deeper than this, readers of XCom fail (seen from 200 levels on).
MAX_DEPTH = 100


@dataclass(frozen=True)
class Request:
    """
    One HTTP request of a service, without host and credentials.

    :param purpose: What the request is for, as the words after "could not": "start an agent task".
    :param repeatable: True where sending it twice does no more than sending it once, so that it may be
        sent again although the fate of the first one is unknown.
    :param has_effect: True where it matters whether an unanswered one was carried out: it starts a task,
        or an agent reads it.
    """

    method: str
    path: str
    purpose: str
    json: Mapping[str, Any] | None = None
    repeatable: bool = True
    has_effect: bool = False
    accept: str = "application/json"


@dataclass(frozen=True)
class Response:
    """A reply: the status stays an int because 520 and 529 happen; header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def to_json(self) -> Any:
        """Return the parsed body, see :func:`parse_json`; bytes that are no UTF-8 are replaced."""
        return parse_json(_decode(self.body))

    def to_fields(self, names: Collection[str]) -> Any:
        """
        Return the body's object with some of its fields; the others are not built.

        An event loop must not stand still for megabytes that it does not need: six of them take 0.6 seconds
        as a whole, and 7 milliseconds like this.
        """
        try:
            found = _FIELDS.decode(self.body)
        except (msgspec.MsgspecError, RecursionError):
            # No object, or with something that only to_json puts up with, such as NaN.
            return self.to_json()
        return {name: parse_json(_decode(bytes(found[name]))) for name in names if name in found}


def parse_json(text: str) -> Any:
    """
    Return the value of a JSON text, in a form that can be stored in XCom.

    What would make Airflow lose the whole result is changed: U+0000 and lone surrogates become U+FFFD, the
    NaN and Infinity that Python's json writes become None, numbers out of range stay the text they were,
    the keys that Airflow's serializer keeps for itself (``__id__``, ``__type`` …) get one more underscore in
    front, and what is nested deeper than 100 levels becomes its JSON text.

    :raises ValueError: where it is not JSON.
    """
    try:
        return _make_storable(_DECODER.decode(text), 0)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _decode(body: bytes) -> str:
    return body.decode("utf-8-sig", errors="replace")


def _read_integer(digits: str) -> int | str:
    # The length comes first, since Python refuses to read thousands of digits.
    return digits if len(digits) > 20 or abs(int(digits)) > MAX_INTEGER else int(digits)


def _read_float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DECODER = json.JSONDecoder(
    parse_constant=lambda name: None, parse_int=_read_integer, parse_float=_read_float
)


def _make_storable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return json.dumps(value)
    if isinstance(value, list):
        return [_make_storable(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_make_storable_key(key): _make_storable(item, depth + 1) for key, item in value.items()}
    return value


def _make_storable_key(key: str) -> str:
    return f"_{key}" if key in _RESERVED_KEYS else _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", key)


def quote_id(name: str, value: object) -> str:
    """
    Return an id quoted into one path segment.

    :raises AgentTaskArgumentError: for an id that is no text, empty, ``.`` or ``..`` (a quoted dot is
        still a dot, and would move the request to another path), or longer than 256 characters.
    """
    if not isinstance(value, str) or not value.strip() or value in (".", ".."):
        raise AgentTaskArgumentError(f"{name} must be a non-empty id, not {shorten(repr(value))}.")
    if len(value) > MAX_ID_LENGTH:
        raise AgentTaskArgumentError(
            f"{name} has {len(value)} characters, more than {MAX_ID_LENGTH}: {shorten(repr(value), 60)}."
        )
    return quote(value, safe=_SAFE_IN_ID, errors="replace")
