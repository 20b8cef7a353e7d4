"""
Reads the state in the response to a status request, without the rest of the body.

A triggerer reads responses on the event loop that all its triggers share. Parsing six megabytes in full would
block it for 0.6 seconds at each poll, and hostile ones for many seconds. So only the fields that describe the
state are parsed, each cut to a maximum length. The rest of the body is skipped and need not even be valid:
NaN, invalid UTF-8, or a result nested 100,000 levels deep do not hide the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Annotated, Any

import msgspec

from airflow_agent_tasks.services.http import MAX_INTEGER, Response, decode, parse_json
from airflow_agent_tasks.services.response_values import MAX_QUESTION, MAX_TEXT, QUESTION_KEYS
from airflow_agent_tasks.services.usage import USAGE_KEYS

#: The fields of a response that describe a task's state, and those of its "progress".
_STATE_KEYS = ("status", "exit_code", "progress", *USAGE_KEYS, *QUESTION_KEYS)
_PROGRESS_KEYS = ("current_step", "steps_completed", "total_steps", *QUESTION_KEYS)
#: The fields that may contain the question, which keep more characters than the others.
_LONG_KEYS = frozenset({*QUESTION_KEYS, "current_step"})
#: Bytes of one field: JSON spells a character with at most 12 bytes, "\ud83d\ude42". That is more than the
#: shown part of most texts, so that a secret at its end is complete and can be recognised.
MAX_FIELD_BYTES = 12 * MAX_QUESTION + 2
#: Bytes of a usage report that is an object.
MAX_USAGE_BYTES = 4_096
#: Bytes to examine in one step: a few milliseconds, in which no other thread runs.
_STEP_BYTES = 32 * 1024
#: Maximum number of strings to step over if some are on the first level; that many take about half a second.
_MAX_PARTS = 400_000

#: Bytes of a key, in which each character may be an escape.
_LONGEST_KEY = 200
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_OPENING, _CLOSING, _COLON, _COMMA = b"{}:,"
#: How much each bracket changes the level, and all bytes that are not brackets.
_CHANGES = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _CHANGES.keys())


class _TooManyPartsError(ValueError):
    """There is too much on the first level to step over."""


_ABSENT = msgspec.Raw()


def _build_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    # Only these fields are kept; msgspec skips all others without building them.
    fields = [(name, msgspec.Raw, _ABSENT) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Fields", fields, gc=False))


_STORABLE_INTEGER = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
#: The fields' types are those that need no further reading.
_PLAIN_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct(
        "PlainFields",
        [
            ("status", str),
            ("exit_code", _STORABLE_INTEGER | None | msgspec.UnsetType, msgspec.UNSET),
            *((name, msgspec.Raw, _ABSENT) for name in _STATE_KEYS[2:]),
        ],
        gc=False,
    )
)
_NO_OTHERS = [_ABSENT] * len(_STATE_KEYS[2:])

_DECODERS: dict[tuple[str, ...], msgspec.json.Decoder[Any]] = {
    names: _build_decoder(names) for names in (_STATE_KEYS, _PROGRESS_KEYS)
}


def read_state(response: Response) -> dict[str, Any]:
    """
    Return the fields of a response that describe the state, as ``parse_json`` would.

    :raises ValueError: if the body is not a JSON object.
    """
    found = _read_plain_state(response)
    return _read_state(response, _find_fields) if found is None else found


def _read_plain_state(response: Response) -> dict[str, Any] | None:
    """
    Return the state of a response that has only a status and an exit code; None for any other response.

    Most responses of a running agent are like this, and a triggerer reads thousands of them per second.
    """
    try:
        status, exit_code, *others = msgspec.structs.astuple(_PLAIN_DECODER.decode(response.body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if others != _NO_OTHERS or len(status) > MAX_TEXT or not status.isprintable():
        return None
    found = {"status": response.redact(status)}
    return found if exit_code is msgspec.UNSET else {**found, "exit_code": exit_code}


def keep_state(response: Response, pause: Callable[[], object]) -> bytes:
    """
    Return the body with only the fields that describe the state, without secrets: at most a megabyte.

    Takes up to a second for ten hostile megabytes; run it in a thread, where no step blocks others for long.

    :param response: The response.
    :param pause: Called between any two steps, to let other threads run.
    :raises ValueError: if the body is not a JSON object.
    """

    def find(body: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
        try:
            return dict(_scan(body, names, pause))
        except _TooManyPartsError:
            with suppress(ValueError):
                return _decode(body, names)
            raise

    return msgspec.json.encode(_read_state(response, find))


def _read_state(
    response: Response, find: Callable[[bytes, tuple[str, ...]], dict[str, bytes]]
) -> dict[str, Any]:
    found: dict[str, Any] = _cut_all(find(response.body.removeprefix(_BYTE_ORDER_MARK), _STATE_KEYS))
    if progress := found.pop("progress", None):
        with suppress(ValueError):
            found["progress"] = _cut_all(find(progress, _PROGRESS_KEYS))
    return _read_values(found, response.redact)


def _find_fields(body: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the JSON text of these fields, as far as the object has them."""
    try:
        return _decode(body, names)
    except ValueError:
        return dict(_scan(body, names, lambda: None))


def _decode(body: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    try:
        struct = _DECODERS[names].decode(body)
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("not a JSON object") from None
    return {name: bytes(raw) for name in names if (raw := getattr(struct, name))}


def _scan(body: bytes, names: tuple[str, ...], pause: Callable[[], object]) -> Iterator[tuple[str, bytes]]:
    """
    Yield fields of an object that is too large for msgspec, or that has NaN or deep nesting somewhere.

    A field is the text on the first level from one key to the next.
    """
    first, last = _skip_blanks(body, 0), _find_end(body, 0, len(body)) - 1
    if not (first < last and body[first] == _OPENING and body[last] == _CLOSING):
        raise ValueError("not a JSON object")
    name, value_at = None, 0
    for begin, end in _find_strings(body, first, last + 1, pause):
        colon = _skip_blanks(body, end)
        if body[colon] != _COLON:
            continue
        if name:
            comma = _find_end(body, value_at, begin) - 1
            yield name, _copy_value(body, name, value_at, comma if body[comma] == _COMMA else begin)
        key = _read_key(body[begin : min(end, begin + _LONGEST_KEY)])
        name, value_at = key if key in names else None, _skip_blanks(body, colon + 1)
    if name:
        yield name, _copy_value(body, name, value_at, last)


def _copy_value(body: bytes, name: str, start: int, end: int) -> bytes:
    """Return the text of a value, without trailing blanks, and cut if it is long."""
    end = _find_end(body, start, end)
    return body[start : end if name == "progress" else min(end, start + MAX_FIELD_BYTES + 1)]


def _skip_blanks(body: bytes, position: int) -> int:
    """Return the position of the next non-blank character, or the end of the body."""
    size = 1
    while position < len(body):
        piece = body[position : position + size]
        if rest := piece.lstrip(_BLANKS):
            return position + len(piece) - len(rest)
        position, size = position + len(piece), min(2 * size, _STEP_BYTES)
    return len(body)


def _find_end(body: bytes, start: int, end: int) -> int:
    """Return where the text between two positions ends, without trailing blanks."""
    size = 1
    while end > start:
        piece = body[max(start, end - size) : end]
        if text := piece.rstrip(_BLANKS):
            return end - len(piece) + len(text)
        end, size = end - len(piece), min(2 * size, _STEP_BYTES)
    return start


def _find_strings(
    body: bytes, position: int, body_end: int, pause: Callable[[], object]
) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each string on the first level; raises ValueError for an unclosed one."""
    depth, begin, is_string, steps = 0, 0, False, 0
    while position < body_end:
        pause()
        piece = body[position : min(position + _STEP_BYTES, body_end)]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # an escape stays in one piece
            piece = piece[:-1]
        # Without escapes, each remaining quotation mark begins or ends a string.
        parts = piece.replace(rb"\\", b"__").replace(rb"\"", b"__").split(b'"')
        brackets = b"".join(parts[is_string::2]).translate(None, _NO_BRACKETS)
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")  # there may be millions of these
        levels = list(accumulate(map(_CHANGES.__getitem__, brackets), initial=depth))
        if min(levels) > 1:
            depth = levels[-1]
            is_string ^= len(parts) % 2 == 0
            position += len(piece)
            continue
        for number, part in enumerate(parts):
            if number:
                if is_string and depth == 1:
                    yield begin, position
                is_string = not is_string
                begin = position - 1
            if not is_string:
                depth += part.count(b"[") + part.count(b"{") - part.count(b"]") - part.count(b"}")
            position += len(part) + 1
        position -= 1  # no quotation mark follows the last part
        steps += len(parts)
        if steps > _MAX_PARTS:
            raise _TooManyPartsError("not a JSON object that can be read in time")
    if depth or is_string:
        raise ValueError("not a JSON object")


def _read_key(raw: bytes) -> Any:
    """Return a key without its escapes; None if it is not a key, or too long to be one of ours."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(raw)
    return None


def _cut_all(fields: dict[str, bytes]) -> dict[str, bytes]:
    return {
        name: raw if name == "progress" or _is_usage(name, raw) else _cut(raw)
        for name, raw in fields.items()
        if raw
    }


def _is_usage(name: str, raw: bytes) -> bool:
    return name in USAGE_KEYS and raw[:1] == b"{" and len(raw) <= MAX_USAGE_BYTES


def _cut(raw: bytes) -> bytes:
    """Return a field's JSON text, cut if it is long text or a long number, or null for a list or object."""
    if raw[:1] in (b"[", b"{"):
        return b"null"
    if len(raw) <= MAX_FIELD_BYTES:
        return raw
    end = b'"' if raw[:1] == b'"' else b""
    # Without the last bytes, which may be the start of an escape.
    for length in range(MAX_FIELD_BYTES, MAX_FIELD_BYTES - 6, -1):
        with suppress(ValueError):
            parse_json(decode(raw[:length] + end))
            return raw[:length] + end
    return b"null"


def _read_values(found: dict[str, Any], redact: Callable[[str], str]) -> dict[str, Any]:
    return {
        name: _read_values(raw, redact) if isinstance(raw, dict) else _read_value(name, raw, redact)
        for name, raw in found.items()
    }


def _read_value(name: str, raw: bytes, redact: Callable[[str], str]) -> Any:
    try:
        value = parse_json(decode(raw), redact)
    except ValueError:
        return None
    limit = MAX_QUESTION if name in _LONG_KEYS else MAX_TEXT
    return value[:limit] if isinstance(value, str) else value
