"""What counts as a file in an agent's JSON, under which name, and what hostile JSON costs."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

import pytest

from airflow_agent_tasks.services.embedded_files import (
    MAX_NAME_BYTES,
    EmbeddedFile,
    LinkedFile,
    drop_files,
    find_media_type,
    make_safe_name,
    take_files,
)

PNG = b"\x89PNG\r\n\x1a\n" + hashlib.shake_128(b"1").digest(2_000)
SMALL_PNG = PNG[:70]
JPEG = b"\xff\xd8\xff\xe0" + PNG
NOISE = hashlib.shake_128(b"2").digest(3_001)

ZIP = b"PK\x03\x04" + NOISE
WEBP = b"RIFF0000WEBP" + NOISE


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def take(value: Any, name: str = "") -> tuple[Any, list[Any]]:
    """Take all files out of a value; return the value and the files."""
    before = json.dumps(value)
    taking, files = take_files(value, name), []
    replacement: Any = None
    while True:
        try:
            file = taking.send(replacement)
        except StopIteration as end:
            assert json.dumps(value) == before, "the value was changed"
            return end.value, files
        files.append(file)
        replacement = {"path": f"p{len(files)}"} if isinstance(file, EmbeddedFile) else None


@pytest.mark.parametrize(
    ("value", "left", "found"),
    [
        (f"data:image/png;base64,{encode(PNG)}", {"path": "p1"}, ("file.png", "image/png", PNG)),
        ({"shot": f"data:;base64,{encode(PNG)}"}, {"shot": {"path": "p1"}}, ("shot.png", "image/png", PNG)),
        (
            {"logo": f"data:image/svg+xml;charset=utf-8;base64,{encode(NOISE)}"},
            {"logo": {"path": "p1"}},
            ("logo.svg", "image/svg+xml", NOISE),
        ),
        (
            f"Look: ![a chart](data:image/png;base64,{encode(SMALL_PNG)}), nice?",
            "Look: ![a chart](p1), nice?",
            ("file.png", "image/png", SMALL_PNG),
        ),
        (
            {"source": {"type": "base64", "media_type": "image/gif", "data": encode(NOISE)}},
            {"source": {"type": "base64", "media_type": "image/gif", "data": {"path": "p1"}}},
            ("source.gif", "image/gif", NOISE),
        ),
        (
            {"mimeType": "Application/PDF", "content": encode(NOISE[:40]), "name": "../bill.PDF"},
            {"mimeType": "Application/PDF", "content": {"path": "p1"}, "name": "../bill.PDF"},
            ("bill.PDF", "application/pdf", NOISE[:40]),
        ),
        (
            {"type": "image/webp", "image": encode(NOISE[:40])},
            {"type": "image/webp", "image": {"path": "p1"}},
            ("image.webp", "image/webp", NOISE[:40]),
        ),
        (
            {"content_type": "text/csv", "base64": encode(b"name,age\n" * 9)},
            {"content_type": "text/csv", "base64": {"path": "p1"}},
            ("file.csv", "text/csv", b"name,age\n" * 9),
        ),
        (
            {"type": "screenshots", "screenshots": [{"base64": encode(PNG), "media_type": "image/png"}]},
            {"type": "screenshots", "screenshots": [{"base64": {"path": "p1"}, "media_type": "image/png"}]},
            ("screenshot.png", "image/png", PNG),
        ),
        ([[encode(JPEG)]], [[{"path": "p1"}]], ("file.jpg", "image/jpeg", JPEG)),
        ({"screen": encode(SMALL_PNG)}, {"screen": {"path": "p1"}}, ("screen.png", "image/png", SMALL_PNG)),
        (
            {"media_type": "text/plain", "base64": encode(b"hello")},
            {"media_type": "text/plain", "base64": {"path": "p1"}},
            ("file.txt", "text/plain", b"hello"),
        ),
        ({"dump": encode(NOISE)}, {"dump": {"path": "p1"}}, ("dump.bin", "application/octet-stream", NOISE)),
        (
            {"dump": base64.urlsafe_b64encode(NOISE).decode().rstrip("=")},
            {"dump": {"path": "p1"}},
            ("dump.bin", "application/octet-stream", NOISE),
        ),
        (
            {"mail": base64.encodebytes(NOISE).decode()},
            {"mail": {"path": "p1"}},
            ("mail.bin", "application/octet-stream", NOISE),
        ),
        ({"z": encode(ZIP)}, {"z": {"path": "p1"}}, ("z.zip", "application/zip", ZIP)),
        ({"w": encode(WEBP)}, {"w": {"path": "p1"}}, ("w.webp", "image/webp", WEBP)),
    ],
)  # fmt: skip
def test_a_file_is_found(value: Any, left: Any, found: tuple[str, str, bytes]) -> None:
    rest, files = take(value)
    (file,) = files
    assert (file.name, file.media_type, file.read()) == found
    assert file.size == len(found[2])
    assert rest == left


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "none",
        {"media_type": "image/png", "data": "none"},
        {"media_type": "text/plain", "content": "A1" * 40},
        {"content_type": "application/json", "data": "A1" * 40},
        {"media_type": "image/png", "data": encode(NOISE) + "!"},
        "data:image/png;base64,",
        "data:image/png;base64,A",
        "data:text/plain,hello%20world" * 100,
        "x" * 5_000,
        "0123456789abcdef" * 100,
        "The quick brown fox jumps over 13 lazy dogs\n" * 99,
        encode(NOISE[:300]),
        {"image": "https://shop/picture.png", "url": "https://shop/"},
        {"screenshot": "file:///etc/passwd"},
        {"screenshot": "https://a/ b"},
    ],
)
def test_other_text_stays_as_it_is(value: Any) -> None:
    assert take(value) == (value, [])


def test_files_come_in_the_order_of_the_text_and_each_keeps_its_place() -> None:
    value = {"a": [{"image": encode(PNG)}, "text"], "b": encode(JPEG), "c": [encode(NOISE)]}
    rest, files = take(value)
    assert [file.read() for file in files] == [PNG, JPEG, NOISE]
    assert rest == {"a": [{"image": {"path": "p1"}}, "text"], "b": {"path": "p2"}, "c": [{"path": "p3"}]}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"screenshots": ["https://x/1.png"]}, ""),
        ({"screenshot_url": "https://x/1.png"}, ""),
        ({"type": "screenshots", "urls": ["https://x/1.png"], "page": "https://y/"}, ""),
        ({"type": "screenshot", "image": {"url": "https://x/1.png"}}, ""),
        (["https://x/1.png"], "screenshots"),
    ],
)
def test_the_address_of_a_screenshot_is_listed_and_stays(value: Any, name: str) -> None:
    assert take(value, name) == (value, [LinkedFile("screenshot", "https://x/1.png")])


def test_what_is_not_replaced_stays() -> None:
    value = {"a": encode(PNG), "b": f"See data:;base64,{encode(PNG)} and data:;base64,{encode(JPEG)}"}
    taking = take_files(value)
    assert [next(taking) is not None for _ in range(3)] == [True] * 3
    with pytest.raises(StopIteration) as end:
        next(taking)
    assert end.value.value == value


def test_a_text_shows_the_size_and_type_of_a_dropped_file() -> None:
    assert drop_files({"a": encode(PNG)}) == {"a": {"size": len(PNG), "type": "image/png"}}
    assert drop_files(f"[data:;base64,{encode(PNG)}]") == "[(a file that was not kept)]"


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("../../etc/passwd", "passwd.png"),
        ("C:\\x\\..", "file.png"),
        ("", "file.png"),
        ("\u202egnp.exe", "gnp.exe"),
        (".bashrc", "bashrc.png"),
        ("Übersicht 1.pdf", "Übersicht_1.pdf"),
        ("a\0b\nc", "a_b_c.png"),
        ("s3://bucket/key?x=1#y", "key_x_1_y.png"),
    ],
)
def test_a_name_of_an_agent_is_made_safe(given: str, safe: str) -> None:
    assert make_safe_name(given, ".png") == safe


@pytest.mark.parametrize(
    "given", ["x" * 9_000, "日本" * 500 + ".png", "a." + "日" * 500, "\ud800" * 300, "." * 300]
)
def test_a_long_name_is_cut(given: str) -> None:
    name = make_safe_name(given, ".png")
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert find_media_type(name) == "image/png"


#: Ten megabytes each: what a service can send at most.
HOSTILE = {
    "invalid at its end": "A1b" * 3_300_000 + "!",
    "invalid data URL": "data:image/png;base64," + "A1b" * 3_300_000 + "!",
    "data URLs without data": "data:;base64," * 300_000,
    "nested data URLs": "data:image/png;base64,data:" * 200_000,
    "long types": "data:" + ("data:a/" + "a" * 90 + ";" + "b" * 40) * 70_000 + ";base64,",
    "deep": None,
    "many": ["A1b" * 13] * 240_000,
    "lines": ("A" * 70 + "\n") * 140_000 + "!",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_read_in_linear_time(name: str) -> None:
    value: Any = HOSTILE[name]
    if name == "deep":
        for _ in range(20_000):
            value = [value, encode(PNG)[:40]]
    begin = time.process_time()
    drop_files(value)
    assert time.process_time() - begin < 10.0  # seconds; a quadratic search takes hours


def test_what_only_looks_like_a_file_stays() -> None:
    text = "data:image/png;base64,A===A and data:image/png;base64,%%%"
    assert drop_files({"text": text}) == {"text": text}


def test_links_stay_where_files_are_dropped() -> None:
    value = {"screenshots": ["https://x/1.png", {"base64": encode(PNG), "media_type": "image/png"}]}
    assert drop_files(value)["screenshots"][0] == "https://x/1.png"
