"""How a service may write a secret into a text."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Callable
from html.entities import html5
from itertools import cycle
from urllib.parse import quote

#: With what JSON, URLs, base64 and HTML spell in their own ways.
KEY = "sk_very/secret+0123&456<789"
PASSWORD = "p-w/rd@0123"

NAMES = {text: name for name, text in html5.items() if name.endswith(";") and len(text) == 1}
#: Characters that nobody sees: soft hyphen, zero width space, word joiner, direction marks, controls.
INVISIBLE = "\u00ad\u200b\u2060\u202e\ufeff\x01\x7f\x9f"


def escape(text: str, write: Callable[[int], str]) -> str:
    return "".join(write(ord(letter)) for letter in text)


def name_entities(text: str) -> str:
    return "".join(f"&{NAMES[letter]}" if letter in NAMES else letter for letter in text)


def in_turn(text: str) -> str:
    """Escape each character in another way."""
    ways = cycle(["%{:02x}", r"\u{:04x}", "&#{};", r"\x{:02x}", "&#x{:x};", "%25{:02X}", r"\{:03o}"])
    return "".join(next(ways).format(ord(letter)) for letter in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda key: quote(key, safe=""),
    "percent-encoded in lower case": lambda key: re.sub(
        "%..", lambda found: found[0].lower(), quote(key, safe="")
    ),
    "percent-encoded in full": lambda key: escape(key, "%{:02X}".format),
    "percent-encoded twice": lambda key: quote(quote(key, safe=""), safe=""),
    "percent-encoded four times": lambda key: escape(key, "%252525{:02x}".format),
    "percent and u": lambda key: escape(key, "%u00{:02x}".format),
    "percent signs in JSON": lambda key: escape(key, r"\u0025{:02x}".format),
    "JSON in JSON": lambda key: json.dumps({"key": key}).replace("/", r"\/"),
    "JSON in JSON in JSON": lambda key: json.dumps(json.dumps({"key": key}).replace("/", r"\/")),
    "JSON escapes": lambda key: escape(key, r"\u{:04x}".format),
    "JSON escapes in upper case": lambda key: escape(key, r"\u{:04X}".format),
    "JSON escapes of JSON escapes": lambda key: escape(key, r"\u005cu{:04x}".format),
    "hexadecimal escapes": lambda key: escape(key, r"\x{:02x}".format),
    "braced escapes": lambda key: escape(key, r"\u{{{:x}}}".format),
    "octal escapes": lambda key: escape(key, r"\{:03o}".format),
    "HTML": html.escape,
    "HTML twice": lambda key: html.escape(html.escape(key)),
    "HTML names": name_entities,
    "HTML in numbers": lambda key: escape(key, "&#{};".format),
    "HTML in long numbers": lambda key: escape(key, "&#{:05000};".format),
    "HTML in hexadecimal numbers": lambda key: escape(key, "&#x{:X};".format),
    "one after the other": in_turn,
    "basic authorization": lambda key: "Basic " + b64encode(f"user:{key}".encode()).decode(),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 of a header": lambda key: b64encode(f"Bearer {key}\r\n".encode()).decode(),
    "base64 for URLs": lambda key: b64encode(f"a{key}?".encode(), b"-_").decode(),
    "percent-encoded base64": lambda key: quote(b64encode(f"ab{key}".encode()).decode(), safe=""),
    "hexadecimal digits": lambda key: key.encode().hex(),
    **{
        f"split by U+{ord(letter):04X}": lambda key, letter=letter: letter.join(key)  # type: ignore[misc]
        for letter in INVISIBLE
    },
}


def show_plain(text: str) -> str:
    """Return a text without its invisible characters, which other code may remove."""
    return "".join(filter(str.isprintable, text))
