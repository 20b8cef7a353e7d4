"""What stands in a connection appears in no message: any field may hold a password, put there by mistake."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from airflow_agent_tasks.cli.check_connections import check_connections
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.connection_settings import list_secrets
from airflow_agent_tasks.hooks.find_hook import afind_hook, find_hook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from tests.raw_server import head

MARKER = "Zx81Marker"
HOSTILE: dict[str, Any] = {
    "mapping": {"http": f"http://user:{MARKER}@proxy", "https": MARKER},
    "list": [f"http://user:{MARKER}@proxy", MARKER],
    "nested": {MARKER: [{"a": (MARKER, {MARKER: 1})}]},
    "long text": f"{MARKER} " * 1000,
    "text": MARKER,
    "URL with a password": f"socks5://user:{MARKER}@proxy.example.com",
    "no URL with a password": f"user:{MARKER}@proxy.example.com:3128",
    "URL with a wrong port": f"http://user:{MARKER}@proxy.example.com:port",
    "bytes as text": f"b'{MARKER}'",
    "control characters": f"http://{MARKER}\u0000\u202e\n@proxy",
}
#: Each is recognised by its digits.
NUMBERS: dict[str, Any] = {
    "number": 81_818_181,
    "negative": -81_818_181,
    "huge": 81_818_181 * 10**300,
    "fraction": 81_818_181.5,
}
FIELDS = sorted({field.name for hook in (LightconeHook, ShinzoHook) for field in hook.form.fields})
#: Fields for which any text, or any number in range, is a value that works.
TAKES_TEXT = {"agent_id": ("text", "bytes as text", *(kind for kind in HOSTILE if "URL" in kind))}


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, connect: Any, capsys: Any) -> Any:
    """Return a function that uses a connection in every way, and returns all that can be read of it."""
    caplog.set_level(logging.INFO)

    def use(conn_type: str, **fields: Any) -> str:
        conn_id = connect("c1", conn_type=conn_type, **fields)
        texts = [text for use_it in (use_settings, use_async, try_it, use_doctor) for text in use_it(conn_id)]
        return "\n".join([*texts, caplog.text, *capsys.readouterr()])

    return use


def use_settings(conn_id: str) -> Iterator[str]:
    hook = find_hook(conn_id)
    try:
        yield repr(hook.settings)
        yield repr(hook.settings.resolve_network()[0] is None)
        hook.resolve_agent_id(None)
    except AgentTaskError as error:
        yield from (str(error), repr(error))
    yield from (repr(hook), str(hook))


def use_async(conn_id: str) -> Iterator[str]:
    try:
        yield repr(asyncio.run(afind_hook(conn_id)).settings)
    except AgentTaskError as error:
        yield from (str(error), repr(error))


def try_it(conn_id: str) -> Iterator[str]:
    yield find_hook(conn_id).test_connection()[1]


def use_doctor(conn_id: str) -> Iterator[str]:
    for finding in check_connections([conn_id]):
        yield str(finding)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("kind", [*HOSTILE, *NUMBERS])
def test_no_value_of_an_extra_field_is_shown(
    name: str, kind: str, shown: Any, serve: Any, monkeypatch: Any
) -> None:
    server = serve(*[head(404, content_length="2") + b"{}"] * 4)
    value = {**HOSTILE, **NUMBERS}[kind]
    all_shown = shown("shinzo", host=server.url, extra={"agent_id": "agt_1", name: value})
    for part in (MARKER, MARKER[:6], MARKER.lower(), "81818181", "81_818"):
        assert part not in all_shown
    if kind not in TAKES_TEXT.get(name, ()):
        assert f"'{name}' of connection 'c1'" in all_shown
    if kind in ("mapping", "list", "nested"):
        loaded = json.loads(json.dumps(value))
        assert f"has the type {type(loaded).__name__} and is not shown" in all_shown


@pytest.mark.parametrize("service", ["lightcone", "shinzo"])
@pytest.mark.parametrize(
    "fields",
    [
        {"password": f"{MARKER} with a space"},
        {"password": f"{MARKER}\nHeader: x"},
        {"password": f"{MARKER}ä"},
        {"host": f"https://user:{MARKER}@example.com"},
        {"host": f"https://{MARKER}@example.com"},
        {"host": f"ftp://{MARKER}"},
        {"host": f"http://{MARKER}"},
        {"host": f"https://example.com?key={MARKER}"},
        {"host": f"https://example.com#{MARKER}"},
        {"host": f"https://{MARKER} {MARKER}"},
        {"host": "example.com", "schema": MARKER},
        {"host": f"[{MARKER}"},
        {"extra": f'"{MARKER}"'},
        {"extra": f'["{MARKER}"]'},
        {"extra": f"{{{MARKER}"},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_no_value_of_a_standard_field_is_shown(shown: Any, service: str, fields: dict[str, Any]) -> None:
    all_shown = shown(service, **fields)
    assert MARKER.lower() not in all_shown.lower()
    assert "connection 'c1'" in all_shown


def test_a_ca_file_of_the_environment_is_named_by_its_variable(connect: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"/{MARKER}.pem")
    _, message = find_hook(connect("c1", conn_type="lightcone")).test_connection()
    assert message == (
        "The CA file set in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE in the environment cannot be read on "
        "this machine."
    )


# --- secrets to mask --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "secrets"),
    [
        ("http://proxy.example.com:3128", []),
        ("http://ada:pass-word@proxy", ["ada:pass-word", "ada", "pass-word"]),
        ("http://a%40b:p%2Fw%23@proxy", ["a%40b:p%2Fw%23", "a@b:p/w#", "a%40b", "a@b", "p%2Fw%23", "p/w#"]),
        ("http://the-token@proxy", ["the-token"]),
        ("http://:pass-word@proxy", [":pass-word", "pass-word"]),
        ("http://ada:pass:word@proxy", ["ada:pass:word", "ada", "pass:word"]),
        ("ada:pass-word@proxy:3128", ["ada:pass-word", "ada", "pass-word"]),
        ("http://ada:p@ss@proxy", ["ada:p@ss", "ada", "p@ss"]),
    ],
)
@pytest.mark.parametrize("where", ["connection", "HTTPS_PROXY", "all_proxy"])
def test_the_credentials_of_a_proxy_are_masked_in_every_form(
    proxy: str, secrets: list[str], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ClientSettings("https://example.com", "sk_1")
    if where == "connection":
        object.__setattr__(settings, "proxy", proxy)
    else:
        monkeypatch.setenv(where, proxy)
    assert list_secrets(settings) == ["sk_1", *secrets]


# --- fields that nothing reads ----------------------------------------------------------------------------


def read_event(log: Any) -> str:
    return str(log["event"] % log.get("positional_args", ()))


def test_an_unknown_extra_field_is_named_in_the_log_and_by_the_test(
    service: Any, connect: Any, agent_task_sandbox: Any
) -> None:
    extra = {**service.extra, "time_out": 5, "api_key": MARKER, "proxy": None}
    connect("c1", conn_type=service.name, host=agent_task_sandbox.url, password="sk_sandbox", extra=extra)
    with capture_logs() as logs:
        works, message = find_hook("c1").test_connection()
    known = ", ".join(field.name for field in service.hook_class.form.fields)
    warning = (
        f"Extra fields of connection 'c1' that have no effect: 'api_key', 'time_out'. "
        f"{service.hook_class.hook_name} uses {known}."
    )
    assert (works, message) == (True, f"{service.hook_class.dialect.title} accepted the key. {warning}")
    assert [(log["log_level"], read_event(log)) for log in logs] == [("warning", warning)]
    assert MARKER not in str(logs)


def test_many_long_unknown_fields_make_one_short_message(connect: Any) -> None:
    connect("c1", conn_type="lightcone", extra={f"{number}\n{'x' * 1000}": 1 for number in range(100)})
    with capture_logs() as logs:
        _ = find_hook("c1").settings
    (message,) = map(read_event, logs)
    assert "and 95 more" in message
    assert len(message) < 500
    assert "\n" not in message


@pytest.mark.parametrize("service_name", ["lightcone", "shinzo"])
@pytest.mark.parametrize("status", [200, 301, 401, 403, 418, 429, 500, 503])
def test_a_failed_test_names_neither_the_task_nor_the_agent_that_it_asks_for(
    service_name: str, status: int, serve: Any, hook_for: Any
) -> None:
    server = serve(head(status, content_length="2") + b"{}")
    works, message = hook_for(
        service_name, server, **({"agent_id": "a"} if service_name == "shinzo" else {})
    ).test_connection()
    assert not works
    assert "airflow-connection-test" not in message
    assert "agent task" not in message
