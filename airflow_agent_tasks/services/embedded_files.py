"""
Finds the files in an agent's JSON: base64 text and data URLs, and the addresses of screenshots.

The JSON is hostile. Its text is read in linear time, a file is decoded only when the caller reads it, and a
name from an agent never becomes part of a path unchanged.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

#: Base64 text of at least this many characters is a file, whatever it holds and whatever surrounds it.
MIN_FILE_TEXT = 1_024
#: Shorter text is none even beside a media type: "none" is valid base64 too.
MIN_TEXT = 32
MAX_NAME_BYTES = 100
MAX_URL = 2_000

#: The first bytes of a file, and its media type.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
)
_UNKNOWN_TYPE = "application/octet-stream"
_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "application/json": ".json",
    "text/plain": ".txt",
    "text/html": ".html",
    "text/csv": ".csv",
    _UNKNOWN_TYPE: ".bin",
}
_TYPE_KEYS = ("media_type", "mediaType", "mime_type", "mimeType", "content_type", "contentType")
_NAME_KEYS = ("filename", "file_name", "fileName", "name")
#: Keys of base64 text if a media type stands beside them; with the first two, even of a text file.
_BASE64_KEYS = frozenset({"base64", "b64_json"})
_UNTELLING_KEYS = _BASE64_KEYS | {"data", "content"}
_DATA_KEYS = _UNTELLING_KEYS | {"image", "screenshot"}
_URL_KEYS = frozenset({"url", "urls", "image", "images", "image_url", "src"})

_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+_-]{1,80}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]+|[A-Za-z0-9_-]+)={0,2}")
# Each part is bounded, and neighbouring parts share no character, so a search takes linear time.
_DATA_URL = re.compile(
    r"data:([A-Za-z0-9.+_/-]{0,100})(?:;[A-Za-z0-9.+_=-]{1,50}){0,4};base64,([A-Za-z0-9+/_%=-]+)"
)
_URL = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class EmbeddedFile:
    """
    A file in a JSON value.

    :param name: A name without path parts; its suffix shows the media type.
    :param media_type: The declared media type, or the one that the first bytes show.
    :param text: Its base64 text.
    """

    name: str
    media_type: str
    text: str

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.text) // 4 * 3 - self.text[-2:].count("=")

    def read(self) -> bytes:
        """Return the decoded bytes."""
        return binascii.a2b_base64(self.text)


@dataclass(frozen=True)
class LinkedFile:
    """A screenshot of which the value holds only the address. The address is untrusted: never open it."""

    name: str
    url: str


def take_files(value: Any, name: str = "") -> Generator[EmbeddedFile | LinkedFile, Any, Any]:
    """
    Yield each file in a JSON value, in order; return a copy of the value with their replacements.

    The caller sends the JSON value that replaces the file just yielded, or None to leave its text as it is. A
    linked file stays as it is.

    :param value: Any JSON value, no deeper than ``parse_json`` returns it. It is not changed.
    :param name: What the value is, such as ``"screenshots"``; default unknown.
    """
    root = [value]
    levels: list[tuple[Any, Iterator[tuple[Any, Any]], str]] = [(root, enumerate([value]), name)]
    while levels:
        container, items, title = levels[-1]
        for key, item in items:
            own_title = key if isinstance(key, str) else title
            if isinstance(item, dict | list):
                container[key] = copied = item.copy()
                levels.append((copied, iter(_list_items(item)), _name_level(item, own_title, title)))
                break
            if not isinstance(item, str):
                continue
            if link := _find_link(item, own_title, title):
                yield link
            elif len(item) >= MIN_TEXT or own_title in _BASE64_KEYS:
                container[key] = yield from _take_text(item, own_title, container, title)
        else:
            levels.pop()
    return root[0]


def drop_files(value: Any) -> Any:
    """Return a JSON value with the size and type of each file in place of its text."""
    taking, replacement = take_files(value), None
    while True:
        try:
            file = taking.send(replacement)
        except StopIteration as end:
            return end.value
        if isinstance(file, EmbeddedFile):
            replacement = {"size": file.size, "type": file.media_type}


def _list_items(container: Any) -> Iterable[tuple[Any, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _name_level(container: Any, own_title: str, title: str) -> str:
    # What is inside a list of screenshots, or an event about them, belongs to screenshots.
    kind = container.get("type") if isinstance(container, dict) else None
    names = (own_title, kind, title)
    return "screenshot" if any(map(_is_of_screenshots, names)) else own_title


def _is_of_screenshots(name: Any) -> bool:
    return isinstance(name, str) and "screenshot" in name[:40].lower()


def _find_link(text: str, own_title: str, title: str) -> LinkedFile | None:
    is_screenshot = _is_of_screenshots(own_title) or (_is_of_screenshots(title) and own_title in _URL_KEYS)
    if is_screenshot and len(text) <= MAX_URL and _URL.fullmatch(text):
        return LinkedFile("screenshot", text)
    return None


def _take_text(text: str, own_title: str, container: Any, title: str) -> Generator[EmbeddedFile, Any, Any]:
    """Yield the files in one text, and return what replaces the text."""
    if ";base64," in text:
        return (yield from _take_data_urls(text, own_title))
    neighbours = container if isinstance(container, dict) else {}
    media_type = _read_media_type(neighbours) if own_title in _DATA_KEYS else None
    is_declared = media_type is not None and (own_title in _BASE64_KEYS or _is_binary(media_type))
    encoded = _read_base64(text)
    if encoded is None or not (is_declared or _is_surely_encoded(encoded)):
        return text
    # "screenshot" says more than "base64".
    name = title if own_title in _UNTELLING_KEYS else own_title
    given = next((neighbours[key] for key in _NAME_KEYS if isinstance(neighbours.get(key), str)), name)
    replacement = yield _describe_file(given, media_type if is_declared else None, encoded)
    return text if replacement is None else replacement


def _take_data_urls(text: str, own_title: str) -> Generator[EmbeddedFile, Any, Any]:
    parts, end = [], 0
    for found in _DATA_URL.finditer(text):
        encoded = _read_base64(unquote(found[2]))
        if encoded is None:
            continue
        declared = found[1].lower()
        media_type = declared if _MEDIA_TYPE.fullmatch(declared) else None
        replacement = yield _describe_file(own_title, media_type, encoded)
        if replacement is None:
            continue
        if len(found[0]) == len(text):
            return replacement
        # Inside a text, such as a page with its images, the path stands for the file.
        parts += [text[end : found.start()], str(replacement.get("path", "(a file that was not kept)"))]
        end = found.end()
    return "".join([*parts, text[end:]]) if parts else text


def _read_media_type(neighbours: Mapping[str, Any]) -> str | None:
    """Return the media type that stands beside a text, or None."""
    for key in (*_TYPE_KEYS, "type"):
        value = neighbours.get(key)
        if isinstance(value, str) and len(value) <= 100 and _MEDIA_TYPE.fullmatch(value := value.lower()):
            return value
    return None


def _is_binary(media_type: str) -> bool:
    # A word or a number in such a field may happen to be valid base64.
    return not media_type.startswith("text/") and not media_type.endswith(("json", "xml", "javascript"))


def _read_base64(text: str) -> str | None:
    """Return base64 text in the standard alphabet, padded and on one line; None if the text is none."""
    if "\n" in text[:100]:  # lines of equal length, as in e-mails: words never have that
        lines = text.split()
        if len(lines[0]) < 60 or any(len(line) != len(lines[0]) for line in lines[:-1]):
            return None
        text = "".join(lines)
    if not _BASE64.fullmatch(text):
        return None
    text = text.rstrip("=").replace("-", "+").replace("_", "/")
    return None if len(text) % 4 == 1 else text + "=" * (-len(text) % 4)


def _is_surely_encoded(encoded: str) -> bool:
    if _detect(encoded):
        return True
    # A long hexadecimal number, or one letter a thousand times, is valid base64 too.
    is_mixed = all(re.search(kind, encoded) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return is_mixed and len(encoded) >= MIN_FILE_TEXT


def _detect(encoded: str) -> str | None:
    """Return the media type that the first bytes show, or None."""
    head = binascii.a2b_base64(encoded[:32])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def _describe_file(given: str, declared: str | None, encoded: str) -> EmbeddedFile:
    media_type = declared or _detect(encoded) or _UNKNOWN_TYPE
    return EmbeddedFile(
        make_safe_name(given, _SUFFIXES.get(media_type, _SUFFIXES[_UNKNOWN_TYPE])), media_type, encoded
    )


def find_media_type(name: str) -> str | None:
    """Return the media type that the suffix of a file name shows, or None."""
    return next((kind for kind, suffix in _SUFFIXES.items() if name.endswith(suffix)), None)


def make_safe_name(given: str, suffix: str = "") -> str:
    """
    Return a file name made of letters, digits, ``.``, ``_`` and ``-``, without path parts.

    :param given: An untrusted name.
    :param suffix: Appended if the name has no suffix of its own.
    """
    last = re.split(r"[/\\]", given[-MAX_URL:])[-1]
    name = re.sub(r"[^\w.-]+", "_", last).strip("._-")
    stem, dot, own_suffix = name.rpartition(".")
    if not (dot and stem and len(own_suffix) <= 10):
        stem, own_suffix = name, suffix.lstrip(".")
    kept = stem.encode("utf-8", "ignore")[: MAX_NAME_BYTES - 15].decode("utf-8", "ignore") or "file"
    return f"{kept}.{own_suffix}" if own_suffix else kept
