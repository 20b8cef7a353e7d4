"""Everything a client needs from its connection, validated once."""

from __future__ import annotations

import functools
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from airflow_agent_tasks.client.content_encoding import ACCEPTED_ENCODINGS
from airflow_agent_tasks.errors import AgentTaskConfigurationError

DEFAULT_TIMEOUT = 30.0
#: Seconds to wait for a TCP connection; a host that accepts none within this time is down.
CONNECT_TIMEOUT = 10.0
#: Seconds for which an event stream may send nothing.
STREAM_TIMEOUT = 300.0


@dataclass(frozen=True)
class ClientSettings:
    """
    Where to send requests and how.

    :param base_url: The service's address; ``https://``, or ``http://`` on the loopback address.
    :param api_key: The key, sent as a bearer token. Never shown.
    :param timeout: Seconds that one request may take in total; default 30.
    :param verify: True (default), False, or the path of a CA file that verifies the service's certificate.
    :param proxy: The proxy's URL; None (default) for the environment's (``HTTPS_PROXY``, ``NO_PROXY``).
    :param requests_per_second: Maximum number of requests per second; None (default) for no limit.
    :param max_concurrent_tasks: Maximum number of agent tasks at once, started by any task of this Airflow;
        None (default) for no limit.
    :param allow_insecure_http: Allows ``http://`` to other hosts, which sends the key unencrypted.
    :param task_url: The pattern of the address of an agent task's page on the service, for links; None
        (default) if it is unknown.
    :param source: Where the settings come from, as in "connection 'lightcone_default'".
    :raises AgentTaskConfigurationError: if any of these is unusable.
    """

    base_url: str
    api_key: str = field(repr=False)
    timeout: float = DEFAULT_TIMEOUT
    verify: bool | str = field(default=True, repr=False)
    proxy: str | None = field(default=None, repr=False)
    requests_per_second: float | None = None
    max_concurrent_tasks: int | None = None
    allow_insecure_http: bool = False
    task_url: str | None = field(default=None, repr=False)
    source: str = "the settings"

    def __post_init__(self) -> None:
        if not self.api_key:
            raise AgentTaskConfigurationError(
                f"{self.source} has no API key. Enter it in the password field."
            )
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise AgentTaskConfigurationError(
                f"The API key of {self.source} contains a space, a line break or another character that "
                "cannot be in a key. Paste it again into the password field."
            )
        self._check_base_url()
        if self.proxy is not None:
            _check_proxy(self.proxy, f"The extra field 'proxy' of {self.source}")

    @property
    def host(self) -> str:
        """The service's host and port, for messages."""
        return urlsplit(self.base_url).netloc

    @property
    def connect_timeout(self) -> float:
        """
        Seconds to wait for a connection.

        At most half the timeout: if both expired together, a request that was never sent would look like one
        without a response.
        """
        return min(CONNECT_TIMEOUT, self.timeout / 2)

    def build_url(self, path: str) -> str:
        """Return the full URL of a request, whose path is already quoted."""
        return self.base_url.rstrip("/") + path

    def build_headers(self, accept: str) -> dict[str, str]:
        """Return the headers of a request for this type of content, without the key."""
        return {
            "Accept": accept,
            "Accept-Encoding": ACCEPTED_ENCODINGS,
            "User-Agent": "airflow-agent-tasks",
        }

    def resolve_network(self) -> tuple[str | None, bool | str]:
        """
        Return the proxy or None, and how to verify certificates; reads the environment as ``requests`` does.

        :raises AgentTaskConfigurationError: for an unusable proxy or CA file.
        """
        # Imported here: the triggerer runs this in a thread; at module level it would block the event loop.
        import requests

        with requests.Session() as session:
            proxies = {"http": self.proxy, "https": self.proxy} if self.proxy else {}
            merged = session.merge_environment_settings(self.base_url, proxies, None, self.verify, None)
        proxy = merged["proxies"].get(urlsplit(self.base_url).scheme) or merged["proxies"].get("all")
        if proxy and not self.proxy:
            proxy = proxy if "://" in proxy else f"http://{proxy}"
            _check_proxy(proxy, "The proxy in the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)")
        verify = True if merged["verify"] is None else merged["verify"]
        if isinstance(verify, str):
            self.load_ca(verify)
        return proxy, verify

    def load_ca(self, path: str) -> ssl.SSLContext:
        """Return a TLS context that trusts only the CAs of this file or folder."""
        try:
            return _load_ca(path, Path(path).stat().st_mtime_ns)
        except (OSError, ValueError):
            origin = (
                f"the extra field 'verify' of {self.source}"
                if path == self.verify
                else "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE in the environment"
            )
            raise AgentTaskConfigurationError(
                f"The CA file set in {origin} cannot be read on this machine."
            ) from None

    def _check_base_url(self) -> None:
        parts = _split_http_url(self.base_url)
        if parts is None or parts.username or parts.password or parts.query or parts.fragment:
            raise AgentTaskConfigurationError(
                f"The host of {self.source} must be a URL like https://api.example.com, without user, "
                "password, '?' or '#'."
            )
        if parts.scheme == "http" and not self.allow_insecure_http and not _is_loopback(parts.hostname or ""):
            raise AgentTaskConfigurationError(
                f"The host of {self.source} starts with http://, which would send the key unencrypted. "
                "Use https://, or set allow_insecure_http in the connection if you accept that."
            )


@functools.lru_cache(maxsize=8)
def _load_ca(path: str, changed_at: int) -> ssl.SSLContext:
    # Cached, because reading a bundle blocks the triggerer's event loop for 60 ms.
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


def _split_http_url(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL, or None for anything else."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if is_usable and url.isprintable() and " " not in url else None


def _check_proxy(proxy: str, name: str) -> None:
    if _split_http_url(proxy) is None:
        # Not shown, because it may contain a password.
        raise AgentTaskConfigurationError(f"{name} must be a URL like http://proxy.example.com:3128.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
