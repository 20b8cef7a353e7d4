"""
The state in the response to a status request, without the rest of the body.

A triggerer reads responses on the event loop that all its triggers share. Six megabytes block it for 0.6
seconds if they are parsed in full, and hostile ones for many seconds, at each poll. So only the fields that
describe the state are parsed, each cut to a length that is bounded; what else the body holds is skipped, and
need not even be valid: NaN, invalid UTF-8, or a result nested 100,000 levels deep do not hide the state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from airflow_agent_tasks.services.http import Response, decode, parse_json
from airflow_agent_tasks.services.response_values import MAX_QUESTION, MAX_TEXT, QUESTION_KEYS

#: The fields of a response that describe a task's state, besides "progress".
_STATE_KEYS = ("status", "exit_code", *QUESTION_KEYS)
_PROGRESS_KEYS = ("current_step", "steps_completed", "total_steps", *QUESTION_KEYS)
#: The fields of which a question is shown, so in more characters than of all others.
_LONG_KEYS = frozenset({*QUESTION_KEYS, "current_step"})
#: Bytes of one field: JSON spells a character with 12 bytes at most, "\ud83d\ude42". That is more than is
#: shown of most texts, so that a secret at the end of what is shown is whole, and recognised.
MAX_FIELD_BYTES = 12 * MAX_QUESTION + 2
#: Strings to step over: about half a second.
_MAX_STEPS = 200_000
#: What Python writes into JSON although it is none, and valid numbers of the same length.
_NUMBERS = {b"NaN": b"0e0", b"Infinity": b"1e000000"}
#: Bytes that are counted in one step, so that a thread that reads megabytes lets others run in between.
_STEP_BYTES = 256 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STRING = re.compile(rb'"[^"]*"')
#: Strings of the same level. Not more at once: matching blocks other threads.
_STRINGS = re.compile(rb'(?:"[^"]*"[^"\[\]{}]*){1,2000}')
_BLANKS = b" \t\r\n"
_COLON = re.compile(rb"[ \t\r\n]*:")


def _build_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    # Only these fields are kept; msgspec skips all others without building them.
    fields = [(name, msgspec.Raw, msgspec.Raw()) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Fields", fields, gc=False))


_STATE_DECODER = _build_decoder((*_STATE_KEYS, "progress"))
_PROGRESS_DECODER = _build_decoder(_PROGRESS_KEYS)


def read_state(response: Response) -> dict[str, Any]:
    """
    Return the fields of a response that describe the state, as :func:`parse_json` would.

    :raises ValueError: if the body is not a JSON object.
    """
    found: dict[str, Any] = _find_fields(response.body, _STATE_DECODER, (*_STATE_KEYS, "progress"))
    if progress := found.pop("progress", None):
        with suppress(ValueError):
            found["progress"] = _find_fields(progress, _PROGRESS_DECODER, _PROGRESS_KEYS)
    return _read_values(found, response.redact)


def keep_state(response: Response) -> bytes:
    """
    Return the body with only the fields that describe the state, without secrets: at most a megabyte.

    Takes up to a second for ten hostile megabytes; run it in a thread, where no step blocks others for long.

    :raises ValueError: if the body is not a JSON object.
    """
    return msgspec.json.encode(read_state(response))


def _find_fields(body: bytes, decoder: msgspec.json.Decoder[Any], names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the JSON text of these fields, as far as the object has them."""
    body = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        found = _decode(body, decoder, names)
    except (msgspec.MsgspecError, RecursionError):
        found = _decode_without_nan(body, decoder, names) or dict(_scan(body, names))
    return {name: raw if name == "progress" else _cut(raw) for name, raw in found.items() if raw}


def _decode(body: bytes, decoder: msgspec.json.Decoder[Any], names: tuple[str, ...]) -> dict[str, bytes]:
    struct = decoder.decode(body)
    # Without copies of megabytes that are cut anyway.
    return {
        name: bytes(memoryview(getattr(struct, name))[: None if name == "progress" else MAX_FIELD_BYTES + 1])
        for name in names
    }


def _decode_without_nan(
    body: bytes, decoder: msgspec.json.Decoder[Any], names: tuple[str, ...]
) -> dict[str, bytes] | None:
    """Return the fields of an object that is JSON except for NaN and Infinity, or None if it is not."""
    for word, number in _NUMBERS.items():
        body = body.replace(word, number)
    try:
        found = _decode(body, decoder, names)
    except (msgspec.MsgspecError, RecursionError):
        return None
    # A question may contain the word, too.
    is_changed = any(number in raw for raw in found.values() for number in _NUMBERS.values())
    return None if is_changed else found


def _scan(body: bytes, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """
    Yield fields of an object that msgspec rejects, such as one with NaN or deep nesting somewhere.

    Steps from string to string, and counts the brackets between them: a field is what stands on the first
    level between one key and the next.
    """
    body = body.strip(_BLANKS)
    # Of the same length, so that what is found in it stands at the same place in the body. Without escapes,
    # each remaining quotation mark begins or ends a string.
    plain = body.replace(rb"\\", b"__").replace(rb"\"", b"__")
    wanted = {f'"{name}"'.encode(): name for name in names}
    if not (plain.startswith(b"{") and plain.endswith(b"}")):
        raise ValueError("not a JSON object")
    depth, position, name, start, steps = 0, 0, None, 0, 0
    while (quote := plain.find(b'"', position)) >= 0:
        depth += _count_levels(plain, position, quote)
        string = (_STRING if depth == 1 else _STRINGS).match(plain, quote)
        if string is None:  # it does not end
            break
        position = string.end()
        steps += 1
        if steps > _MAX_STEPS:
            raise ValueError("not a JSON object that can be read in time")
        if depth != 1 or (colon := _COLON.match(plain, position)) is None:
            continue
        if name:
            yield name, body[start:quote].rstrip(_BLANKS).removesuffix(b",").strip(_BLANKS)
        name, start = wanted.get(string.group()), colon.end()
    depth += _count_levels(plain, position, len(plain))
    if depth or plain.find(b'"', position) >= 0:
        raise ValueError("not a JSON object")
    if name:
        yield name, body[start:-1].strip(_BLANKS)


def _count_levels(text: bytes, start: int, end: int) -> int:
    if end - start <= _STEP_BYTES:
        return _count(text[start:end])
    return sum(_count(text[step : min(step + _STEP_BYTES, end)]) for step in range(start, end, _STEP_BYTES))


def _count(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{") - text.count(b"]") - text.count(b"}")


def _cut(raw: bytes) -> bytes:
    """Return a field's JSON text, cut if it is long text or a long number, or null for a list or object."""
    if raw[:1] in (b"[", b"{"):
        return b"null"
    if len(raw) <= MAX_FIELD_BYTES:
        return raw
    end = b'"' if raw[:1] == b'"' else b""
    # Shorter by what may be the beginning of an escape.
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
