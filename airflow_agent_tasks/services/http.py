"""HTTP requests and responses of the services, their limits, and JSON in a form that Airflow can store."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.text import shorten

#: Larger responses are not read to the end: a broken or hostile service must not fill a worker's memory.
MAX_BODY_BYTES = 10 * 1024 * 1024
#: Maximum number of status requests to keep, less than a kilobyte each with their URLs: more than the agent
#: tasks of a triggerer.
KEPT_REQUESTS = 16_384
MAX_ID_LENGTH = 256
#: The rule for ids, for messages.
ID_RULE = f"1 to {MAX_ID_LENGTH} printable characters, not '.' or '..'"

#: Characters that need no quoting in a path segment (RFC 3986, ``pchar``), as in the official SDK.
_SAFE_IN_ID = "!$&'()*+,;=:@"

#: Segments that lead to another path, even if quoted; and the text that a template without a value renders
#: to.
_UNUSABLE_IDS = frozenset({"", ".", "..", "None"})

#: Explains a request with an effect that got no usable response.
MAY_HAVE_ACTED = "The request may have been carried out: check the service before you send it again."

#: The largest integer that Airflow's processes can send each other (msgpack has 64 bits).
MAX_INTEGER = 2**63 - 1
# PostgreSQL refuses U+0000 and msgpack refuses a lone surrogate.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
#: Keys that mark objects for Airflow's serializer. It rejects some of them, and for others builds the object
#: that they name. They are listed here, although Airflow defines them, because this module already walks
#: through every result once, and another module would walk through the same megabytes again.
_AIRFLOW_SERIALIZER_KEYS = frozenset(
    {"__classname__", "__id__", "__type", "__var", "__version__", "__data__"}
)
#: Readers of XComs fail on deeper nesting (seen from 200 levels on).
MAX_DEPTH = 100


@dataclass(frozen=True)
class Request:
    """
    One HTTP request to a service, without host and credentials.

    :param purpose: What the request is for, as the words after "could not": "start an agent task".
    :param repeatable: True (default) if sending it twice has the same effect as sending it once, so that it
        may be retried even if the first attempt may have been carried out.
    :param has_effect: True if it matters whether a request without a response was carried out: it starts a
        task, or an agent reads it. Default False.
    """

    method: str
    path: str
    purpose: str
    json: Mapping[str, Any] | None = None
    repeatable: bool = True
    has_effect: bool = False
    accept: str = "application/json"


def keep(text: str) -> str:
    """Return the text unchanged."""
    return text


@dataclass(frozen=True)
class Response:
    """
    An HTTP response. The status is an int, because 520 and 529 occur; header names are in lower case.

    :param redact: Returns a text of the parsed body without the connection's secrets. The body itself
        contains none in plain text, but may spell one in another way, such as with JSON escapes.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    redact: Callable[[str], str] = field(default=keep, repr=False, compare=False)

    def to_json(self) -> Any:
        """Return the parsed body, see ``parse_json``; invalid UTF-8 is replaced."""
        return parse_json(decode(self.body), self.redact)

    def has_json_object(self) -> bool:
        """Return whether the body is a JSON object, as every service sends, rather than a gateway's page."""
        try:
            return isinstance(self.to_json(), dict)
        except ValueError:
            return False


def parse_json(text: str, redact: Callable[[str], str] = keep) -> Any:
    """
    Return the value of a JSON text, in a form that Airflow can store as XCom.

    Replaces everything that would make Airflow lose the whole result: U+0000 and lone surrogates become
    U+FFFD, NaN and Infinity become None, numbers out of range remain text, keys that Airflow's serializer
    reserves (``__id__``, ``__type`` …) get another leading underscore, and values nested deeper than 100
    levels become JSON text.

    :param text: The JSON text.
    :param redact: Returns each text in the value, and each key, without secrets; default unchanged.
    :raises ValueError: if it is not JSON.
    """
    try:
        return _make_storable(_DECODER.decode(text), 0, redact)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode(body: bytes) -> str:
    """Return a body as text, without a byte order mark; invalid UTF-8 is replaced."""
    return body.decode("utf-8-sig", errors="replace")


def _read_integer(digits: str) -> int | str:
    # Check the length first: Python refuses to convert thousands of digits.
    return digits if len(digits) > 20 or abs(int(digits)) > MAX_INTEGER else int(digits)


def _read_float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


_DECODER = json.JSONDecoder(
    parse_constant=lambda name: None, parse_int=_read_integer, parse_float=_read_float
)


def _make_storable(value: Any, depth: int, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return _make_text_storable(value, redact)
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return redact(json.dumps(value))
    if isinstance(value, list):
        return [_make_storable(item, depth + 1, redact) for item in value]
    if isinstance(value, dict):
        return {
            f"_{key}" if key in _AIRFLOW_SERIALIZER_KEYS else _make_text_storable(key, redact): (
                _make_storable(item, depth + 1, redact)
            )
            for key, item in value.items()
        }
    return value


def _make_text_storable(text: str, redact: Callable[[str], str]) -> str:
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", redact(text))


def quote_id(name: str, value: object) -> str:
    """
    Return an id, quoted as one path segment.

    :param name: The argument's name, for messages.
    :param value: The id.
    :raises AgentTaskArgumentError: for an id that is not text, is empty, ``None`` (a template without its
        value), ``.`` or ``..`` (quoting does not change dots, so the request would go to another path), or
        has more than 256 characters.
    """
    if not isinstance(value, str) or not _names_something(value):
        raise AgentTaskArgumentError(f"{name} must be a non-empty id, not {shorten(repr(value))}.")
    if len(value) > MAX_ID_LENGTH:
        raise AgentTaskArgumentError(
            f"{name} has {len(value)} characters, more than {MAX_ID_LENGTH}: {shorten(repr(value), 60)}."
        )
    return quote(value, safe=_SAFE_IN_ID, errors="replace")


def is_usable_id(value: str) -> bool:
    """
    Return whether an id can name the same agent task, or agent, in all requests and processes.

    ``quote_id`` must accept it, and it must be printable: control characters may change in transit, and
    U+FFFD shows that reading already changed something. It appears in many log lines, so it must not forge a
    part of one.
    """
    is_harmless = value.isprintable() and shorten(value, MAX_ID_LENGTH) == value
    return _names_something(value) and is_harmless and "\N{REPLACEMENT CHARACTER}" not in value


def _names_something(value: str) -> bool:
    return value.strip() not in _UNUSABLE_IDS
