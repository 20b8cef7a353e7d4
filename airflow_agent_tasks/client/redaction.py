"""
Redacts secrets in responses: a service that echoes one must not put it into logs, errors or XComs.

Secrets in plain text, in base64 (as in "Authorization: Basic") or in hexadecimal digits are replaced in the
bytes. Other spellings appear only in the texts of the parsed body, which ``Response.redact`` handles: escapes
of JSON and JavaScript, percent escapes and HTML entities, even nested ones, and invisible characters between
those of the secret.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import unquote, urlsplit

from airflow_agent_tasks.services.http import Response

MASK = "***"
#: The headers that are read. A service may send a megabyte of others.
_HEADERS = ("content-type", "date", "retry-after", "retry-after-ms")
_LONGEST_HEADER = 1_000
#: Shorter secrets would also match unrelated words.
_SHORTEST_PASSWORD = 5
_SHORTEST_ENCODED = 8
#: The start of every escaped spelling of a character. U+007F is the only invisible character that ASCII JSON
#: may contain unescaped.
_ESCAPES = ("\\", "%", "&", "\x7f")
_ESCAPE_BYTES = "".join(_ESCAPES).encode()
#: How many nested levels of escapes are resolved. Each level costs the same.
_MOST_LEVELS = 8

_BACKSLASHES = re.compile(
    r"\\+(?:u([0-9a-fA-F]{4})|u\{0*([0-9a-fA-F]{1,5})\}|x([0-9a-fA-F]{2})|(?P<octal>[01][0-7]{2}))?"
)
#: JavaScript's %u0073, and the percent sign itself, escaped any number of times.
_PERCENT = re.compile("%(?:25)*(?:u00)?(?=[0-9a-fA-F]{2})")
# Not html.unescape alone: it fails on a number with thousands of digits.
_ENTITY = re.compile("&(?:#(?:[xX]0*(?P<hex>[0-9a-fA-F]{1,5})|0*(?P<decimal>[0-9]{1,6}))|[a-zA-Z]{2,31});?")
_TOKEN = re.compile(r"\S+")


class Redactor:
    """
    Replaces the secrets of one connection.

    :param api_key: The key.
    :param proxy: The proxy's URL, which may contain a password, or None.
    """

    def __init__(self, api_key: str, proxy: str | None = None) -> None:
        secrets = [*_list_proxy_secrets(proxy), api_key]
        self._texts = [*secrets, *(text for secret in secrets for text in _encode(secret))]
        self._secrets = [secret.encode() for secret in secrets]
        self._bytes = [text.encode() for text in self._texts]
        # The secrets are unescaped too, because a password may contain something that looks like an escape.
        self._unescaped = [
            plain for text in self._texts if len(plain := _unescape(text)) >= _SHORTEST_PASSWORD
        ]
        self._shortest = min(map(len, self._texts))

    def build_response(self, status: int, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """
        Return a response without the secrets, and with only the headers that are read, in lower case.

        :param body: The body; None (default) if it follows later.
        """
        cleaned = _RedactedHeaders(headers, self.redact)
        if body is None:
            return Response(status, cleaned, redact=self.redact)
        for known in self._bytes:
            if known in body:
                body = body.replace(known, MASK.encode())
        # Most bodies have none of these, and then megabytes of texts need not be searched one by one.
        if body.isascii() and len(body.translate(None, _ESCAPE_BYTES)) == len(body):
            return Response(status, cleaned, body)
        return Response(status, cleaned, body, self.redact)

    def redact(self, text: str) -> str:
        """
        Return a text without the secrets, however they are spelled.

        If a secret appears only after unescaping, the whole word is replaced.
        """
        if len(text) < self._shortest:
            return text
        for known in self._texts:
            if known in text:
                text = text.replace(known, MASK)
        if not self._is_spelled_in(text):
            return text
        text = _TOKEN.sub(lambda token: MASK if self._is_spelled_in(token[0]) else token[0], text)
        return MASK if self._is_spelled_in(text) else text

    def redact_chunks(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a body without the secrets, even if one spans two chunks; delays what may be part of one."""
        for secret in self._secrets:
            chunks = _redact_chunks(chunks, secret)
        yield from chunks

    def _is_spelled_in(self, text: str) -> bool:
        if text.isprintable() and not any(escape in text for escape in _ESCAPES):
            return False
        plain = _unescape(text)
        return any(known in plain for known in self._unescaped)


class _RedactedHeaders(Mapping[str, str]):
    """The headers that are read, without secrets; redacted only when read, which few responses need."""

    def __init__(self, headers: Mapping[str, str], redact: Callable[[str], str]) -> None:
        self._headers = headers
        self._redact = redact

    def __getitem__(self, name: str) -> str:
        if name not in _HEADERS:
            raise KeyError(name)
        return self._redact(self._headers[name][:_LONGEST_HEADER])

    def __iter__(self) -> Iterator[str]:
        return (name for name in _HEADERS if name in self._headers)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def _unescape(text: str) -> str:
    """Return a text without invisible characters and backslashes, and with its escapes resolved."""
    for _ in range(_MOST_LEVELS):
        before = text
        if not text.isprintable():
            text = "".join(filter(str.isprintable, text))
        if "\\" in text:
            text = _BACKSLASHES.sub(_read_backslash, text)
        if "%" in text:
            text = unquote(_PERCENT.sub("%", text))
        if "&" in text:
            text = _ENTITY.sub(_read_entity, text)
        if text == before:
            break
    return text


def _read_backslash(escape: re.Match[str]) -> str:
    if escape.lastindex is None:
        return ""
    return chr(int(escape[escape.lastindex], 8 if escape.lastgroup == "octal" else 16))


def _read_entity(entity: re.Match[str]) -> str:
    if digits := entity["hex"]:
        return chr(int(digits, 16))
    return chr(int(entity["decimal"])) if entity["decimal"] else html.unescape(entity[0])


def _list_proxy_secrets(proxy: str | None) -> list[str]:
    parts = urlsplit(proxy or "")
    password = unquote(parts.password or "")
    if len(password) < _SHORTEST_PASSWORD:
        return []
    # As it is sent: the base64 of user and password.
    return [f"{unquote(parts.username or '')}:{password}", password]


def _encode(secret: str) -> Iterator[str]:
    data = secret.encode()
    if len(data) < _SHORTEST_ENCODED:
        return
    yield data.hex()
    yield data.hex().upper()
    for shift in range(3):
        # The characters that do not depend on the text before and after the secret.
        first = -(-shift * 8 // 6)
        text = b64encode(b"\0" * shift + data).decode()[first : (shift + len(data)) * 8 // 6]
        yield from {text, text.replace("+", "-").replace("/", "_")}


def _redact_chunks(chunks: Iterable[bytes], secret: bytes) -> Iterator[bytes]:
    held = b""
    for chunk in chunks:
        text = (held + chunk).replace(secret, MASK.encode())
        held = _find_start(secret, text)
        if ready := text[: len(text) - len(held)]:
            yield ready
    if held:
        yield held


def _find_start(secret: bytes, text: bytes) -> bytes:
    """Return the longest suffix of the text that is a prefix of the secret."""
    # Only where its first byte is: a chunk may be one byte, and a key a thousand.
    at = text.find(secret[:1], max(0, len(text) - len(secret) + 1))
    while at >= 0 and not secret.startswith(text[at:]):
        at = text.find(secret[:1], at + 1)
    return text[at:] if at >= 0 else b""
