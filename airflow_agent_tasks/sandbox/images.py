"""Generates the screenshots: valid PNG images of any size in bytes."""

from __future__ import annotations

import struct
import zlib

MEDIA_TYPE = "image/png"
SMALLEST = 200

_WIDTH, _HEIGHT = 320, 180
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Length, type and checksum of a chunk.
_CHUNK_OVERHEAD = 12
#: An ancillary, private chunk that is safe to copy: readers skip it.
_FILLER = b"fiLl"


def draw_screenshot(number: int, size: int) -> bytes:
    """
    Return a PNG image in a colour that differs for each number.

    :param number: The number of the screenshot.
    :param size: The size in bytes, at least ``SMALLEST``.
    """
    # One bit per pixel and a palette: a few bytes when compressed. The factor is odd, so that the first 2^24
    # numbers all differ in colour, and large, so that neighbours differ visibly.
    colour = (number * 0x9E3779B1 % 2**24).to_bytes(3, "big")
    head = _SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 1, 3, 0, 0, 0))
    head += _chunk(b"PLTE", colour)
    rows = (b"\0" + bytes(_WIDTH // 8)) * _HEIGHT
    tail = _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return head + _chunk(_FILLER, bytes(size - len(head) - len(tail) - _CHUNK_OVERHEAD)) + tail


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
