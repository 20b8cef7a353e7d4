"""The key with which the API server verifies the orders of workers."""

from __future__ import annotations

from airflow.configuration import conf


def read_secret_key() -> str | None:
    """Return the key that workers sign their orders with, or None if this server has none."""
    # Not airflow.sdk.conf: if no key is set, it returns the text "{SECRET_KEY}", which is public.
    return conf.get("api", "secret_key", fallback=None) or None
