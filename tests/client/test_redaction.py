"""The redactor finds a secret in a text, however it is spelled, in little time."""

from __future__ import annotations

import random
import time
from string import ascii_letters, digits
from urllib.parse import quote

import pytest

from airflow_agent_tasks.client.redaction import MASK, Redactor
from tests.secret_spellings import KEY, PASSWORD, SPELLINGS, show_plain

PROXY = f"http://user:{quote(PASSWORD, safe='')}@proxy.example.com"
REDACTOR = Redactor(KEY, PROXY)
#: As long as signed tokens may be.
LONG_KEY = "".join(random.Random(1).choices(ascii_letters + digits + "-_.", k=4_000))  # noqa: S311


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("secret", [KEY, PASSWORD])
def test_every_spelling_is_masked(name: str, secret: str) -> None:
    spelled = SPELLINGS[name](secret)
    redacted = REDACTOR.redact(f"before {spelled} after")
    assert spelled not in redacted
    assert secret not in show_plain(redacted)
    assert MASK in redacted


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_long_key_is_masked(name: str) -> None:
    spelled = SPELLINGS[name](LONG_KEY)
    redacted = Redactor(LONG_KEY).redact(f"before {spelled}")
    assert MASK in redacted
    assert LONG_KEY not in show_plain(redacted)


@pytest.mark.parametrize("name", [name for name in SPELLINGS if "JSON in JSON" not in name])
def test_the_words_around_a_secret_stay(name: str) -> None:
    redacted = REDACTOR.redact(f"before {SPELLINGS[name](KEY)} after")
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@pytest.mark.parametrize("password", ["\\\\\\\\\\", "%41%42%43", "a\\x41b", "&amp;&lt;", "pässwört", "%%%%%"])
def test_a_password_may_look_like_an_escape(password: str) -> None:
    redactor = Redactor(KEY, f"http://user:{quote(password, safe='')}@proxy.example.com")
    assert redactor.redact(f"before {password} after") == f"before {MASK} after"
    assert redactor.redact("ABC, and \\ or 100 % of C:\\users &c.") == "ABC, and \\ or 100 % of C:\\users &c."


@pytest.mark.parametrize("password", ["pässwört", "pass\\word", "100%sure", "a&amp;bcde", "two words"])
def test_a_password_is_masked_where_it_is_escaped(password: str) -> None:
    proxy = f"http://user:{quote(password, safe='')}@proxy.example.com"
    assert Redactor(KEY, proxy).redact(quote(password, safe="")) == MASK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "100 %",
        "C:\\users",
        "&amp;",
        "%%%%",
        "\\" * 1_000,
        "sk_very",
        "**",
        "ä🙂",
        "&#" + "9" * 9_999,
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert Redactor(KEY, "http://user:abc@proxy.example.com").redact(text) == text


def test_a_short_password_masks_no_words() -> None:
    assert Redactor(KEY, "http://user:run@proxy.example.com").redact("running") == "running"


def test_a_long_key_costs_no_time() -> None:
    began = time.thread_time()
    redactor = Redactor(LONG_KEY, PROXY)
    redactor.redact(r"%73 \u0073 &#115; \x73")
    assert time.thread_time() - began < 0.01


HOSTILE = [
    "\\",
    r"\u0025",
    "%25",
    "%41",
    "&amp;",
    "&#9",
    r"\x41",
    r"\163",
    "&ampsol",
    "&a",
    "\x01",
    "%41 ",
    "&#0",
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("key", [KEY, LONG_KEY])
def test_hostile_texts_cost_little_time(piece: str, key: str) -> None:
    redactor = Redactor(key, PROXY)
    text = piece * (16_000 // len(piece))
    began = time.thread_time()
    redactor.redact(text)
    assert time.thread_time() - began < 0.05
