"""Unpacks compressed bodies within limits: a few kilobytes may expand to gigabytes, or take minutes."""

from __future__ import annotations

import zlib
from collections.abc import Callable

#: The encodings that we can unpack, for the header ``Accept-Encoding``.
ACCEPTED_ENCODINGS = "gzip, deflate"
#: Maximum number of parts of one gzip body. Servers that flush often send a few; a million would each need an
#: unpacker.
_MOST_PARTS = 100
_MOST_ENCODINGS = 5
#: Packed bytes per step, after each of which the deadline is checked.
_STEP_BYTES = 64 * 1024
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


def unpack(encodings: str, body: bytes, limit: int, check: Callable[[], object]) -> bytes | None:
    """
    Return an unpacked body, or None if it has more bytes than the limit.

    :param encodings: The ``Content-Encoding``; an unknown one, which we did not accept, is left packed.
    :param body: The body as received.
    :param limit: Maximum number of bytes to unpack.
    :param check: Raises TimeoutError once the request's deadline has passed.
    :raises ValueError: if the body is broken.
    :raises TimeoutError: if ``check`` does.
    """
    if len(body) > limit:
        return None
    for encoding in reversed(encodings.lower().split(",")[:_MOST_ENCODINGS]):
        name = encoding.strip()
        unpacked: bytes | None = body
        if body and name in ("gzip", "x-gzip"):
            unpacked = _unpack(body, _GZIP, limit, check, most_parts=_MOST_PARTS)
        elif body and name == "deflate":
            # Some services omit the header.
            unpacked = _unpack(body, _ZLIB if body[0] & 0xF == 8 else _RAW, limit, check, most_parts=1)
        if unpacked is None:
            return None
        body = unpacked
    return body


def _unpack(
    body: bytes, window: int, limit: int, check: Callable[[], object], *, most_parts: int
) -> bytes | None:
    unpacked, position = bytearray(), 0
    for part in range(most_parts):
        unpacker = zlib.decompressobj(window)
        while position < len(body) and not unpacker.eof:
            check()
            step = body[position : position + _STEP_BYTES]
            try:
                unpacked += unpacker.decompress(step, limit + 1 - len(unpacked))
            except zlib.error:
                if part:  # like other clients, ignore anything after the first part
                    return bytes(unpacked)
                raise ValueError("the body does not match its Content-Encoding") from None
            if len(unpacked) > limit:
                return None
            position += len(step) - len(unpacker.unused_data)
    if position < len(body):
        raise ValueError(f"the body has more than {most_parts} compressed parts")
    return bytes(unpacked)
