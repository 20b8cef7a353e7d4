"""Whether a service can reach the URL of a callback, as far as the URL itself shows it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

#: Top-level names that only exist inside a network or a machine (RFC 6761, RFC 6762, RFC 8375).
_INTERNAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".test", ".invalid", ".example")


def is_out_of_reach(url: str, service_url: str) -> bool:
    """
    Return whether a service surely cannot reach a URL, because it only exists in a network of one's own.

    A service that is itself in such a network, such as the sandbox, may reach it.

    :param url: The URL of the callback.
    :param service_url: The base URL of the service.
    """
    return _is_internal(url) and not _is_internal(service_url)


def _is_internal(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_INTERNAL_NAMES)
