"""Where callbacks are to reach the API server, and what signs them: from Airflow's configuration."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_agent_tasks.callbacks.settings import read_base_url, read_secrets

OURS, AIRFLOWS = "AIRFLOW__AGENT_TASKS__CALLBACK_BASE_URL", "AIRFLOW__API__BASE_URL"
SECRET, FERNET_KEY = "AIRFLOW__AGENT_TASKS__CALLBACK_SECRET", "AIRFLOW__CORE__FERNET_KEY"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: Any) -> None:
    for name in (OURS, AIRFLOWS, SECRET, FERNET_KEY):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    ("ours", "airflows", "found"),
    [
        ("", "", "http://localhost:8080"),
        ("", "/", "http://localhost:8080"),
        ("", "/prefix/", "http://localhost:8080/prefix"),
        ("", "https://airflow.example.com", "https://airflow.example.com"),
        ("", "https://airflow.example.com/team/", "https://airflow.example.com/team"),
        ("https://hooks.example.com", "http://airflow.internal:8080", "https://hooks.example.com"),
        (" https://hooks.example.com/in//\n", "/prefix", "https://hooks.example.com/in"),
        ("HTTPS://hooks.example.com:8443", "", "HTTPS://hooks.example.com:8443"),
        ("http://[fd00::1]:8080/", "", "http://[fd00::1]:8080"),
        ("  ", "https://airflow.example.com", "https://airflow.example.com"),
    ],
)
def test_the_base_url_is_that_of_the_api_server_unless_another_is_set(
    monkeypatch: Any, ours: str, airflows: str, found: str
) -> None:
    monkeypatch.setenv(OURS, ours)
    monkeypatch.setenv(AIRFLOWS, airflows)
    assert read_base_url() == found


@pytest.mark.parametrize(
    "base_url",
    [
        *(
            "airflow.example.com",
            "/prefix",
            "ftp://airflow.example.com",
            "https://",
            "https:///path",
            "//host",
        ),
        *("https://host/?a=b", "http://[fd00::1", "localhost:8080", "https://:8080", "file:///etc/passwd"),
        *("https://host/#part", "https://a host.example", "https://host:port", "https://host:99999"),
        *("https://user:password@host.example", "https://host/a b", "https://host/a\tb"),
        *("https://host:0", "https://host/?", "https://host/#"),
    ],
)
def test_an_unusable_base_url_is_refused_without_showing_it(monkeypatch: Any, base_url: str) -> None:
    monkeypatch.setenv(OURS, base_url)
    with pytest.raises(ValueError, match="callback_base_url") as caught:
        read_base_url()
    assert str(caught.value) == (
        "[agent_tasks] callback_base_url must be an http:// or https:// URL without user, password, "
        "'?' or '#'."
    )


def test_an_unusable_base_url_of_airflow_is_refused_too(monkeypatch: Any) -> None:
    monkeypatch.setenv(AIRFLOWS, "airflow.example.com")
    with pytest.raises(ValueError, match="callback_base_url must be"):
        read_base_url()


@pytest.mark.parametrize(
    ("ours", "airflows", "found"),
    [
        ("", "", []),
        ("one", "", ["one"]),
        ("one", "another", ["one"]),
        ("new,old", "", ["new", "old"]),
        (" new , old ,,", "", ["new", "old"]),
        (" , ", "of Airflow", ["of Airflow"]),
        ("", "new key,old key", ["new key", "old key"]),
        ("", "{FERNET_KEY}", []),
        ("", " {FERNET_KEY} ", []),
        ("", "new key, {FERNET_KEY}", ["new key"]),
        ("{braces} are allowed", "", ["{braces} are allowed"]),
    ],
)
def test_the_secrets_are_ours_or_else_those_of_airflow(
    monkeypatch: Any, ours: str, airflows: str, found: list[str]
) -> None:
    monkeypatch.setenv(SECRET, ours)
    monkeypatch.setenv(FERNET_KEY, airflows)
    assert read_secrets() == found


def test_a_fernet_key_as_airflow_makes_it_is_a_secret(monkeypatch: Any) -> None:
    key = Fernet.generate_key().decode()
    monkeypatch.setenv(FERNET_KEY, key)
    assert read_secrets() == [key]
