"""The token in the URL of a callback: it names the submission whose task the callback wakes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
from itsdangerous import BadData, URLSafeSerializer

#: Distinguishes these tokens from everything else that is signed with the same secret.
_SALT = "airflow-agent-tasks.callback"
#: Maximum length of a token in characters; ours have a third.
MAX_TOKEN = 400


@dataclass(frozen=True)
class CallbackToken:
    """
    What a token says, without any name of a DAG or task: the service and its logs see the URL.

    :param task_instance_id: Airflow's id of the try that submitted the agent task.
    :param submission: The fingerprint of the submission's idempotency key.
    """

    task_instance_id: UUID
    submission: str


class _Content(msgspec.Struct, array_like=True):
    task_instance_id: UUID
    submission: str
    expires_at: int


def fingerprint(idempotency_key: str) -> str:
    """Return the fingerprint of an idempotency key, which may be a user's own and of any length."""
    return hashlib.sha256(idempotency_key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def make_token(secrets: Sequence[str], token: CallbackToken, *, expires_at: float) -> str:
    """
    Return the signed text of a token.

    :param secrets: The secrets, the newest first: it signs.
    :param token: What the token says.
    :param expires_at: When the token becomes invalid, in seconds since 1970.
    """
    return str(_serializer(secrets).dumps([token.task_instance_id.hex, token.submission, int(expires_at)]))


def read_token(secrets: Sequence[str], text: str, *, now: float) -> CallbackToken | None:
    """
    Return what a token says, or None if it is forged, malformed or expired.

    :param secrets: The secrets; each of them is accepted.
    :param text: Whatever a caller sent.
    :param now: The time in seconds since 1970.
    """
    if not secrets or len(text) > MAX_TOKEN:
        return None
    try:
        content = msgspec.convert(_serializer(secrets).loads(text), _Content)
    # ValueError: text that is not Unicode.
    except (BadData, msgspec.ValidationError, ValueError):
        return None
    if content.expires_at <= now:
        return None
    return CallbackToken(content.task_instance_id, content.submission)


def _serializer(secrets: Sequence[str]) -> URLSafeSerializer:
    return URLSafeSerializer(
        # The library signs with the last one.
        list(reversed(secrets)),
        salt=_SALT,
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
