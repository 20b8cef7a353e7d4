"""The signature under what a worker asks of this package's part in Airflow's API server."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

#: Seconds for which a signature holds: the order is sent at once, and clocks differ a little.
LIFETIME = 60
_SALT = "airflow-agent-tasks.required-action"


def sign(secret_key: str, order: Mapping[str, Any]) -> str:
    """Return a token that holds for this order and a minute, where the same ``secret_key`` is known."""
    return str(URLSafeTimedSerializer(secret_key, salt=_SALT).dumps(_digest(order)))


def is_signed(secret_key: str, order: Mapping[str, Any], token: str) -> bool:
    """Tell whether a token was made for this order, by somebody with the same key, a minute ago at most."""
    try:
        signed, made_at = URLSafeTimedSerializer(secret_key, salt=_SALT).loads(token, return_timestamp=True)
    except BadSignature:
        return False
    # Not by its max_age, which refuses what comes from a clock that is a second ahead.
    is_fresh = abs(time.time() - made_at.timestamp()) <= LIFETIME
    return is_fresh and bool(signed == _digest(order))


def _digest(order: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()
