"""The signature of a worker's request to this package's plugin in Airflow's API server."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

#: Seconds for which a signature is valid: a request is sent at once, and clocks differ a little.
LIFETIME = 60
#: The plugin's response, with status 403, to an order without a valid signature.
REFUSAL = "This order is not signed by a worker of this Airflow."
_SALT = "airflow-agent-tasks.required-action"


def sign(secret_key: str, order: Mapping[str, Any]) -> str:
    """
    Return a token for this order, valid for a minute.

    :param secret_key: The key that signer and verifier share.
    """
    return str(URLSafeTimedSerializer(secret_key, salt=_SALT).dumps(_digest(order)))


def read_digest(secret_key: str, token: str) -> str | None:
    """Return the digest of the order that a token signs, if it has this key and is at most a minute old."""
    try:
        signed, made_at = URLSafeTimedSerializer(secret_key, salt=_SALT).loads(token, return_timestamp=True)
        # Not by the serializer's max_age: it rejects a token from a clock that is a second ahead.
        is_fresh = abs(time.time() - made_at.timestamp()) <= LIFETIME
    # A timestamp out of range raises one of the others.
    except (BadSignature, ValueError, OverflowError, OSError):
        return None
    return signed if is_fresh and isinstance(signed, str) else None


def is_signed(secret_key: str, order: Mapping[str, Any], token: str) -> bool:
    """Return whether the token signs this order with this key, and is at most a minute old."""
    return read_digest(secret_key, token) == _digest(order)


def _digest(order: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()
