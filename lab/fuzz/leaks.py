"""Checks whether a text contains a secret."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import unquote


def is_leaked(text: str, secrets: list[str]) -> bool:
    """Return whether the text contains a secret, in plain text or decoded."""
    return any(_shows(text, secret) for secret in secrets)


def _shows(text: str, secret: str) -> bool:
    encoded = [secret.encode().hex(), b64encode(f"user:{secret}".encode()).decode()[8:-4]]
    decoders: list[Callable[[str], str]] = [
        *(str, unquote, html.unescape, _unescape),
        lambda text: unquote(text.replace("%25", "%").replace("%25", "%")),
        lambda text: "".join(filter(str.isprintable, text)),
        lambda text: re.sub(r"(?<!\\)\\+u\{(\w\w)\}", lambda found: chr(int(found[1], 16)), text),
    ]
    return any(secret in decode(text) for decode in decoders) or any(known in text for known in encoded)


def _unescape(text: str) -> str:
    text = text.replace("\\\\", "\\").replace(r"\/", "/")
    return text.encode("ascii", "ignore").decode("unicode_escape", "ignore")
