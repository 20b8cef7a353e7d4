"""The token in the URL of a callback: what it says, and who can make one."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any
from uuid import UUID

import pytest
from itsdangerous import URLSafeSerializer
from itsdangerous.encoding import base64_encode

from airflow_agent_tasks.callbacks.token import MAX_TOKEN, CallbackToken, fingerprint, make_token, read_token

SECRET = "of-the-tests"
ID = UUID("01a22507-84bd-77a9-ae15-06fb43907a2f")
TOKEN = CallbackToken(ID, fingerprint("airflow-1"))
SALT = "airflow-agent-tasks.callback"
NOW = 1_777_900_000.0


def make(*secrets: str, expires_at: float = NOW + 1) -> str:
    return make_token(secrets, TOKEN, expires_at=expires_at)


def read(text: str, *secrets: str, now: float = NOW) -> CallbackToken | None:
    return read_token(secrets or [SECRET], text, now=now)


def build_serializer(salt: str = SALT, key_derivation: str = "hmac", digest: Any = hashlib.sha256) -> Any:
    options = {"key_derivation": key_derivation, "digest_method": digest}
    return URLSafeSerializer(SECRET, salt=salt, signer_kwargs=options)


def test_a_token_says_what_was_put_into_it() -> None:
    text = make(SECRET)
    assert read(text) == TOKEN
    assert len(text) <= MAX_TOKEN / 2
    assert text.replace(".", "").replace("-", "").replace("_", "").isalnum()


def test_a_token_names_neither_the_key_of_its_submission_nor_the_secret() -> None:
    content = build_serializer().loads(make(SECRET, expires_at=5.9))
    assert content == [ID.hex, fingerprint("airflow-1"), 5]


@pytest.mark.parametrize("key", ["", "k" * 100_000, "Größe 🙂", "\ud800"])
def test_every_idempotency_key_has_a_short_fingerprint_of_its_own(key: str) -> None:
    assert len(fingerprint(key)) == 16
    assert fingerprint(key) != fingerprint(key + "x")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_each_secret_of_a_rotation_is_accepted_and_the_newest_signs(position: int) -> None:
    secrets = ["new", "old", "older"]
    assert read(make(secrets[position]), *secrets) == TOKEN
    text = make(*secrets[position:])
    others = [secret for secret in secrets if secret != secrets[position]]
    assert read(text, secrets[position]) == TOKEN
    assert read(text, *others) is None


@pytest.mark.parametrize(("now", "is_valid"), [(0.0, True), (99.9, True), (100.0, False), (1e12, False)])
def test_a_token_expires(now: float, is_valid: bool) -> None:
    assert (read(make(SECRET, expires_at=100.7), now=now) is not None) is is_valid


def test_without_secrets_no_token_is_valid() -> None:
    assert read_token([], make(SECRET), now=NOW) is None


@pytest.mark.parametrize(
    "options",
    [{"salt": f"{SALT}s"}, {"salt": "itsdangerous"}, {"key_derivation": "none"}, {"digest": hashlib.sha1}],
    ids=str,
)
def test_what_is_signed_otherwise_with_the_same_secret_is_refused(options: dict[str, Any]) -> None:
    content = [ID.hex, "x", int(NOW) + 1]
    assert read(build_serializer().dumps(content)) == CallbackToken(ID, "x")
    assert read(build_serializer(**options).dumps(content)) is None


def test_no_truncated_token_is_accepted() -> None:
    text = make(SECRET)
    assert [read(text[:length]) for length in range(len(text))] == [None] * len(text)


def test_a_changed_letter_makes_a_token_invalid() -> None:
    text = make(SECRET)
    # The last letter has bits that mean nothing.
    for position, letter in enumerate(text[:-1]):
        assert read(text[:position] + ("A" if letter != "A" else "B") + text[position + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "/", "\0", "é", "\u0660" * 10, "🙂.🙂", "\ud800", "\udfff.x", "x" * 300, "=" * 40),
        *("x" * (MAX_TOKEN + 1), "." * 1_000_000, "\ud800" * 1_000),
    ],
    ids=ascii,
)
def test_whatever_else_a_caller_sends_is_refused(text: str) -> None:
    assert read(text) is None
    # The signature may be followed by what is no base64: the token says the same.
    assert read(f"{make(SECRET)}{text}") in (TOKEN, None)
    assert read(f"{text or 'x'}{make(SECRET)}") is None


def test_a_signed_token_that_is_too_long_is_not_even_checked() -> None:
    content = [ID.hex, "x", int(NOW) + 1, list(range(1_000))]
    text = build_serializer().dumps(content)
    assert len(text) > MAX_TOKEN
    assert read(text) is None


@pytest.mark.parametrize(
    "content",
    [
        *(None, True, 5, "text", [], {}, [ID.hex], [ID.hex, "x"], [[], [], []], [ID.hex, "x", "9999999999"]),
        *(["no id", "x", 9_999_999_999], [ID.hex, 5, 9_999_999_999], [ID.hex, "x", float("inf")]),
        *([ID.hex, "x", None], [ID.hex, "x", True], [ID.int, "x", 9_999_999_999], [ID.hex, "x", -1]),
        {"task_instance_id": ID.hex, "submission": "x", "expires_at": 9_999_999_999},
    ],
    ids=str,
)
def test_other_content_with_a_valid_signature_is_refused(content: Any) -> None:
    assert read(build_serializer().dumps(content)) is None


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b".", b"!", base64_encode(b"{"), base64_encode(b"\xff\xfe"), b"." + base64_encode(b"no zlib")),
        b"." + base64_encode(zlib.compress(b"[" * 200_000)),
    ],
    ids=ascii,
)
def test_signed_bytes_that_are_no_json_are_refused(raw: bytes) -> None:
    serializer = build_serializer()
    text = serializer.make_signer(SALT).sign(raw).decode()
    assert len(text) <= MAX_TOKEN
    assert read(text) is None
