"""The signature under what a worker asks of this package's part in Airflow's API server."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

#: Seconds for which a signature holds: the order is sent at once, and clocks differ a little.
LIFETIME = 60
_SALT = "airflow-agent-tasks.required-action"


def sign(secret_key: str, order: Mapping[str, Any]) -> str:
    """Return a token that holds for this order, for a minute, where the same ``secret_key`` is known."""
    return str(URLSafeTimedSerializer(secret_key, salt=_SALT).dumps(_digest(order)))


def is_signed(secret_key: str, order: Mapping[str, Any], token: str) -> bool:
    """Tell whether a token was made for this order, by somebody with the same key, within the last minute."""
    try:
        signed = URLSafeTimedSerializer(secret_key, salt=_SALT).loads(token, max_age=LIFETIME)
    except BadSignature:
        return False
    return isinstance(signed, str) and hmac.compare_digest(signed, _digest(order))


def _digest(order: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()
