"""
Redacts secrets in responses: a service that echoes one must not put it into logs, errors or XComs.

What is spelled out is replaced in the bytes. Other spellings show only in the texts of the parsed body, which
:attr:`Response.redact` is for: JSON and percent escapes, HTML entities, base64 (as in "Authorization: Basic")
and hexadecimal digits.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote, urlsplit

from airflow_agent_tasks.services.http import Response

MASK = "***"
#: The headers that are read. A service may send a megabyte of others.
_HEADERS = ("content-type", "date", "retry-after", "retry-after-ms")
_LONGEST_HEADER = 1_000
#: Shorter ones would replace words that mean something else.
_SHORTEST_PASSWORD = 5
_SHORTEST_ENCODED = 8
#: What each way to write a character as another text begins with.
_ESCAPES = ("\\", "%", "&")


class Redactor:
    """
    Replaces the secrets of one connection.

    :param api_key: The key.
    :param proxy: The proxy's URL, which may contain a password, or None.
    """

    def __init__(self, api_key: str, proxy: str | None = None) -> None:
        secrets = [*_list_proxy_secrets(proxy), api_key]
        encoded = [text for secret in secrets for text in _encode(secret)]
        self._secrets = [secret.encode() for secret in secrets]
        self._texts = [*secrets, *encoded]
        self._hints = [text.encode() for text in (*_ESCAPES, *encoded)]
        self._spellings = re.compile("|".join(map(_build_pattern, secrets)))

    def build_response(self, status: int, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """
        Return a response without the secrets, with those of its headers that are read; names in lower case.

        :param body: The body; None (default) for one that follows.
        """
        cleaned = {
            name: self.redact(value[:_LONGEST_HEADER])
            for name in _HEADERS
            if (value := headers.get(name)) is not None
        }
        if body is None:
            return Response(status, cleaned, redact=self.redact)
        for secret in self._secrets:
            if secret in body:
                body = body.replace(secret, MASK.encode())
        if any(hint in body for hint in self._hints):
            return Response(status, cleaned, body, self.redact)
        return Response(status, cleaned, body)

    def redact(self, text: str) -> str:
        """Return a text without the secrets, however they are spelled."""
        for known in self._texts:
            if known in text:
                text = text.replace(known, MASK)
        if any(escape in text for escape in _ESCAPES):
            text = self._spellings.sub(MASK, text)
        return text

    def redact_chunks(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a body without the secrets, even if two chunks share one; delays what may be part of one."""
        for secret in self._secrets:
            chunks = _redact_chunks(chunks, secret)
        yield from chunks


def _list_proxy_secrets(proxy: str | None) -> list[str]:
    parts = urlsplit(proxy or "")
    password = unquote(parts.password or "")
    if len(password) < _SHORTEST_PASSWORD:
        return []
    # As it is sent: the base64 of both.
    return [f"{unquote(parts.username or '')}:{password}", password]


def _encode(secret: str) -> Iterator[str]:
    data = secret.encode()
    if len(data) < _SHORTEST_ENCODED:
        return
    yield data.hex()
    yield data.hex().upper()
    for shift in range(3):
        # The characters that do not depend on what stands before and after the secret.
        first = -(-shift * 8 // 6)
        text = b64encode(b"\0" * shift + data).decode()[first : (shift + len(data)) * 8 // 6]
        yield from {text, text.replace("+", "-").replace("/", "_")}


def _build_pattern(secret: str) -> str:
    return "".join(map(_build_character_pattern, secret))


def _build_character_pattern(character: str) -> str:
    code = ord(character)
    digits = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{code:02x}")
    # More than one backslash stands in JSON within JSON; without a limit, many would take for ever.
    escaped = [rf"\\{{0,8}}{re.escape(character)}", rf"\\{{1,8}}(?:u00|x){digits}", f"%(?:25)?{digits}"]
    escaped.append(f"&#(?:0{{0,5}}{code}|[xX]0{{0,5}}{digits});?")
    if (named := html.escape(character)) != character:
        escaped.append(named)
    return f"(?:{'|'.join(escaped)})"


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
    """Return the longest end of the text that is a start of the secret."""
    return next(
        (secret[:length] for length in range(len(secret) - 1, 0, -1) if text.endswith(secret[:length])), b""
    )
