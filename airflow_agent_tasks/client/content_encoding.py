"""Unpacks compressed bodies to a limit: a few kilobytes may unpack to gigabytes."""

from __future__ import annotations

import zlib

_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


def unpack(encodings: str, body: bytes, limit: int) -> bytes | None:
    """
    Return an unpacked body, or None if it has more bytes than the limit.

    :param encodings: The ``Content-Encoding``; what we do not know, and did not accept, is left as it is.
    :param body: The body as it was received.
    :param limit: The most bytes to unpack.
    :raises ValueError: if the body is broken.
    """
    for encoding in reversed(encodings.lower().split(",")[:5]):
        name = encoding.strip()
        if body and name in ("gzip", "x-gzip"):
            unpacked = _unpack(body, _GZIP, limit)
        elif body and name == "deflate":
            # Some services leave out the header.
            unpacked = _unpack(body, _ZLIB if body[0] & 0xF == 8 else _RAW, limit)
        else:
            unpacked = body if len(body) <= limit else None
        if unpacked is None:
            return None
        body = unpacked
    return body


def _unpack(body: bytes, window: int, limit: int) -> bytes | None:
    parts, size = [], 0
    while body:
        unpacker = zlib.decompressobj(window)
        try:
            part = unpacker.decompress(body, limit + 1 - size)
        except zlib.error:
            raise ValueError("the body is not packed as its header says") from None
        parts.append(part)
        size += len(part)
        if size > limit:
            return None
        body = unpacker.unused_data  # gzip may have several parts
    return b"".join(parts)
