"""Hostile replies of a service, each reproducible from a seed and a number."""

from __future__ import annotations

import gzip
import html
import json
import random
import string
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

#: As long as a signed token, with characters that JSON, URLs, base64 and HTML escape differently.
KEY = "sk_fuzz/very+secret&<" + "".join(
    random.Random(1).choices(string.ascii_letters + string.digits + "-_./", k=1_000)  # noqa: S311
)
PROXY_PASSWORD = "p-w/rd@0123"  # noqa: S105 - of no proxy
#: The limits of a response.
MAX_BODY = 10 * 1024 * 1024

_TEXTS = [
    "running",
    "completed",
    "AWAITING INPUT",
    "failed",
    "",
    " ",
    "\0",
    "\ud800",
    "🙂",
    "a\nb",
    "..",
    "3",
    "-",
]
_SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    2**63,
    -(10**30),
    0.5,
    1e300,
    float("nan"),
    float("inf"),
]
_KEYS = [
    *("task_id", "status", "exit_code", "result", "error", "message", "detail", "msg", "reused", "question"),
    *("prompt", "input_request", "progress", "current_step", "steps_completed", "total_steps", "created_at"),
]
_EVENT_KINDS = ["progress_update", "completion", "error", "screenshots", "tool_call", "thinking", ""]
_EVENT_KEYS = [
    *("delta", "tool", "tool_call", "name", "arguments", "screenshots", "files", "percent", "usage", "text"),
    *("content", "data", "cost", "tokens", "screenshot", "input", "action", "percentage", "summary", "file"),
]
_STATUSES = [200] * 12 + [201, 202, 204, 206, 101, 302, 304, 307, 400, 401, 403, 404, 408, 409, 422, 425, 429]
_STATUSES += [444, 499, 500, 502, 503, 504, 520, 529, 600, 999]
_PIECES = [
    b"[],",
    b"{},",
    b"1,",
    b'"",',
    b'{"a":1},',
    rb'"\n\u0041",',
    b'"\xff",',
    b"NaN,",
    b"-Infinity,",
    b"1e999,",
]
#: The parts of a reply that may be sent slowly: the start, and the part to repeat.
_DRIPS = [
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    (b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{", b" "),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X-A: b\r\n"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n{" + b" " * 100_000, b" "),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n{" + b" " * 8_000_000, b" "),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9000000\r\n\r\n", gzip.compress(b"")),
    (b"", b""),
]


_PACKERS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzip.compress),
    (b"deflate", zlib.compress),
    (b"deflate", lambda body: zlib.compress(body)[2:-4]),
    (b"gzip", lambda body: b"".join(map(gzip.compress, (body[:100], body[100:200], body[200:])))),
    (b"gzip", lambda body: gzip.compress(b"") * 50_000 + gzip.compress(body)),
    (b"gzip", lambda body: gzip.compress(body) + b"\0" * 1_000_000),
    (b"deflate", lambda body: b"\x03\x00" * 500_000),
    (b"gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    (b"gzip", bytes),
    (b"br", bytes),
]


@dataclass(frozen=True)
class GeneratedReply:
    """
    One reply.

    :param data: The bytes to send.
    :param drip: Bytes to repeat afterwards; None closes the connection, empty sends nothing more.
    """

    data: bytes
    drip: bytes | None = None


def generate(seed: int, number: int) -> GeneratedReply:
    """Return the reply with this number."""
    draw = random.Random(f"{seed}/{number}")  # noqa: S311 - it must be the same again
    if draw.random() < 0.06:
        return GeneratedReply(*draw.choice(_DRIPS))
    body = _draw_body(draw)
    data = _frame(draw, body)
    kind = draw.random()
    if kind < 0.05:
        data = data[: draw.randrange(len(data))]
    elif kind < 0.1:
        at = draw.randrange(min(len(data), 400))
        data = data[:at] + draw.randbytes(draw.randrange(4)) + data[at + draw.randrange(4) :]
    elif kind < 0.15:
        data = b"HTTP/1.1 102 Processing\r\n\r\n" * draw.choice([1, 3, 5_000]) + data
    return GeneratedReply(data)


def generate_stream(seed: int, number: int) -> list[bytes]:
    """Return the event stream with this number, in the chunks in which it arrives."""
    draw = random.Random(f"{seed}/stream/{number}")  # noqa: S311 - it must be the same again
    end = draw.choice([b"\n", b"\r", b"\r\n"])
    frames = []
    for _ in range(draw.randrange(1, 8)):
        body = _draw_body(draw)
        if draw.random() < 0.7 and body.startswith(b"{"):
            extra = {name: _draw_value(draw, 2) for name in draw.sample(_EVENT_KEYS, 4)}
            kind = {"type": draw.choice([*_EVENT_KINDS, _spell(draw)])}
            body = json.dumps(kind | extra).encode()[:-1] + b"," + body[1:]
        lines = draw.choice([b"event: x", b": hello", b"id: 5", b"retry: 1", b"\xef\xbb\xbf", b""])
        frames.append(lines + end + b"data: " + body.replace(b"\n", end + b"data: ") + end + end)
    stream = b"".join(frames)
    size = draw.choice([1, 7, 1_000] if len(stream) < 20_000 else [1_000, 65_536])
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def _draw_body(draw: random.Random) -> bytes:
    kind = draw.random()
    if kind < 0.05:
        return draw.choice(
            [b"", b" ", b"<html>" + _spell(draw).encode() + b"</html>", b"[1]", b"null", b"\xff\xfe"]
        )
    if kind < 0.15:
        return _draw_large_body(draw)
    value = _draw_object(draw, 4)
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5)
    body = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.3:
        body = body.replace(b"/", rb"\/").replace(b"_", rb"\u005f")
    return b"\xef\xbb\xbf" + body if draw.random() < 0.1 else body


def _draw_large_body(draw: random.Random) -> bytes:
    size = draw.choice([60_000] * 3 + [70_000, 300_000, 1_000_000, MAX_BODY - 300, MAX_BODY + 1_000])
    kind = draw.random()
    if kind < 0.2:
        depth = min(size // 2, draw.choice([900, 5_000, 100_000, size // 2]))
        value = b"[" * depth + b"]" * depth
    elif kind < 0.3:
        value = b'{"a":' * (size // 6) + b"1" + b"}" * (size // 6)
    elif kind < 0.4:
        value = b'"' + draw.choice([b"a", rb"\n", rb"\u005f", rb"\\", rb"\"", b"\xff"]) * (size // 6) + b'"'
    elif kind < 0.5:
        value = b"{" + draw.choice([b'"a":1,', b'"":1,', b'"status":1,']) * (size // 11) + b'"b":NaN}'
    elif kind < 0.6:
        value = b"0" + draw.choice([b" ", b"\n"]) * size
    elif kind < 0.7:
        text = b'"' + draw.choice([rb"\\", rb"\u0025", b"%41", b"&#9;", b"\x7f"]) * (size // 20 // 6) + b'"'
        texts = b",".join(b'"%s":%s' % (key.encode(), text) for key in _KEYS)
        return b'{%s,"progress":{%s},"status":"running"}' % (texts, texts)
    else:
        value = (
            b"["
            + draw.choice(_PIECES) * (size // 9)
            + draw.choice([b"1", b"NaN", _spell(draw).encode()])
            + b"]"
        )
    fields = [b'"%s": %s' % (draw.choice(_KEYS).encode(), value), b'"status": "running"', b'"task_id": "t1"']
    draw.shuffle(fields)
    return b"{" + b", ".join(fields) + b"}"


def _draw_value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(7 if depth else 5)
    if kind == 0:
        return draw.choice(_SCALARS)
    if kind == 1:
        return _spell(draw)
    if kind <= 4:
        return draw.choice(_TEXTS) * draw.choice([1, 1, 1, 300])
    if kind == 5:
        return [_draw_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return _draw_object(draw, depth - 1)


def _draw_object(draw: random.Random, depth: int) -> dict[str, Any]:
    keys = [*draw.sample(_KEYS, draw.randrange(8)), draw.choice([*_TEXTS, _spell(draw)])]
    return {
        key: _draw_value(draw, depth) for key in [*keys, *(["status", "task_id"] * (draw.random() < 0.6))]
    }


def _spell(draw: random.Random) -> str:
    """Return the key, or the proxy's password, as a service might echo it."""
    ways: list[Callable[[str], str]] = [
        str,
        lambda key: quote(key, safe=""),
        lambda key: "".join(f"%{ord(letter):02x}" for letter in key),
        lambda key: "".join(rf"\u{ord(letter):04x}" for letter in key),
        lambda key: json.dumps({"key": key}).replace("/", r"\/"),
        lambda key: html.escape(key).replace("_", "&#95;"),
        lambda key: "Basic " + b64encode(f"user:{key}".encode()).decode(),
        lambda key: key.encode().hex(),
        lambda key: "".join(f"%2525{ord(letter):02X}" for letter in key),
        lambda key: "".join(rf"\u{{{ord(letter):x}}}" for letter in key),
        lambda key: draw.choice("\u200b\u00ad\x01\x7f").join(key),
    ]
    secret = draw.choice([KEY, PROXY_PASSWORD])
    return (
        draw.choice(["", "Bearer ", "a" * 9_990]) + draw.choice(ways)(secret) + draw.choice(["", ".", "/x"])
    )


def _frame(draw: random.Random, body: bytes) -> bytes:
    headers = [b"Content-Type: " + draw.choice([b"application/json", b"text/html", _spell(draw).encode()])]
    if draw.random() < 0.3:
        headers.append(
            b"Retry-After: " + draw.choice([b"1", b"nan", b"-1", b"x", b"1e300", _spell(draw).encode()])
        )
    if draw.random() < 0.3:
        name, pack = draw.choice(_PACKERS)
        headers.append(b"Content-Encoding: " + name)
        body = pack(body)
    kind = draw.random()
    if kind < 0.3:
        headers.append(b"Transfer-Encoding: chunked")
        size = draw.choice([max(1, len(body)), 1_000, 70_000] if len(body) > 20_000 else [1, 7, 1_000])
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif kind < 0.9:
        headers.append(b"Content-Length: %d" % (len(body) + draw.choice([0] * 9 + [-1, 5])))
    draw.shuffle(headers)
    return b"HTTP/1.1 %d Any\r\n" % draw.choice(_STATUSES) + b"\r\n".join(headers) + b"\r\n\r\n" + body
