"""The settings of callbacks: their base URL, and the secrets that sign them."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow.sdk import conf

from airflow_agent_tasks.airflow_compat.api_server import find_page
from airflow_agent_tasks.configuration.options import CALLBACK_BASE_URL, CALLBACK_SECRET
from airflow_agent_tasks.configuration.reader import read_text

#: The path of the receiver in the API server, before the token.
PATH = "/agent-tasks/callback/"
#: What Airflow returns for a Fernet key that is not set.
PLACEHOLDER = "{FERNET_KEY}"


def read_base_url() -> str:
    """
    Return the URL of the API server as services reach it, without a slash at its end.

    :raises ValueError: if the setting is not an http:// or https:// URL; the message says what to do.
    """
    base_url = read_text(CALLBACK_BASE_URL) or find_page()
    if not _is_usable(base_url):
        # Not shown, because it may contain a password.
        raise ValueError(
            f"{CALLBACK_BASE_URL} must be an http:// or https:// URL without user, password, '?' or '#'."
        )
    return base_url.rstrip("/")


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_plain = "@" not in parts.netloc and not set(" ?#") & set(url) and url.isprintable()
    return has_host and is_plain and parts.scheme in ("http", "https")


def read_secrets() -> list[str]:
    """Return the secrets, the newest first; empty if this machine has none."""
    for given in (read_text(CALLBACK_SECRET), conf.get("core", "fernet_key", fallback=None) or ""):
        # Without a setting, Airflow returns a placeholder, which is public.
        secrets = [one.strip() for one in given.split(",") if one.strip() not in ("", PLACEHOLDER)]
        if secrets:
            return secrets
    return []
