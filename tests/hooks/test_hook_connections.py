"""From an Airflow connection to the settings of a client."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import afind_hook, find_hook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook

KEY = "sk_very_secret_0123456789"
MISSING = "does not exist or could not be read. Add it under Admin → Connections"


@pytest.fixture(params=["find_hook", "afind_hook"])
def find(request: pytest.FixtureRequest) -> Any:
    """Either lookup; each test runs with both, which must behave alike."""
    if request.param == "find_hook":
        return find_hook
    return lambda conn_id: asyncio.run(afind_hook(conn_id))


def test_the_connection_type_names_the_service(service: Any, connect: Any, find: Any) -> None:
    connect("c1", conn_type=service.name)
    hook = find("c1")
    assert (type(hook), hook.conn_id) == (service.hook_class, "c1")
    assert hook.settings == ClientSettings(
        base_url=service.hook_class.dialect.default_base_url, api_key=KEY, source="connection 'c1'"
    )


def test_a_connection_may_give_everything(connect: Any, find: Any) -> None:
    connect(
        "c1",
        conn_type="shinzo",
        host=" https://gateway.example.com/shinzo ",
        extra={
            "timeout": 12.5,
            "verify": "/etc/ssl/ca.pem",
            "proxy": "http://proxy.example.com:3128",
            "requests_per_second": 2,
            "max_concurrent_tasks": "50",
            "allow_insecure_http": False,
            "agent_id": " agt_1 ",
        },
    )
    hook = find("c1")
    assert hook.settings == ClientSettings(
        base_url="https://gateway.example.com/shinzo",
        api_key=KEY,
        timeout=12.5,
        verify="/etc/ssl/ca.pem",
        proxy="http://proxy.example.com:3128",
        requests_per_second=2.0,
        max_concurrent_tasks=50,
        source="connection 'c1'",
    )
    assert hook.resolve_agent_id(None) == "agt_1"
    assert hook.resolve_agent_id("agt_2") == "agt_2"


@pytest.mark.parametrize("empty", [None, ""])
def test_empty_form_fields_count_as_not_given(empty: str | None, service: Any, connect: Any) -> None:
    names = [field.name for field in service.hook_class.form.fields]
    connect("c1", conn_type=service.name, host=empty, extra=dict.fromkeys(names, empty))
    hook = find_hook("c1")
    assert hook.settings == ClientSettings(
        base_url=service.hook_class.dialect.default_base_url, api_key=KEY, source="connection 'c1'"
    )
    assert hook.resolve_agent_id(None) is None


def test_a_connection_may_be_a_uri(connect: Any, find: Any) -> None:
    uri = (
        "lightcone://:sk_a%2Fb@example.com:8443/https?timeout=5&verify=false&requests_per_second=1.5"
        "&allow_insecure_http=TRUE&proxy=http%3A%2F%2Fproxy.example.com"
    )
    assert find(connect("c1", uri)).settings == ClientSettings(
        base_url="https://example.com:8443",
        api_key="sk_a/b",
        timeout=5.0,
        verify=False,
        proxy="http://proxy.example.com",
        requests_per_second=1.5,
        allow_insecure_http=True,
        source="connection 'c1'",
    )


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "example.com"}, "https://example.com"),
        ({"host": "example.com:8443"}, "https://example.com:8443"),
        ({"host": "example.com", "port": 8443}, "https://example.com:8443"),
        ({"host": "example.com/base", "port": 8443}, "https://example.com:8443/base"),
        ({"host": "https://example.com/base/", "port": 8443}, "https://example.com:8443/base/"),
        ({"host": "https://example.com:9443/base", "port": 8443}, "https://example.com:9443/base"),
        ({"host": "127.0.0.1", "port": 8321, "schema": "http"}, "http://127.0.0.1:8321"),
        ({"host": "http://localhost", "port": 8321}, "http://localhost:8321"),
        ({"host": "::1", "port": 8321, "schema": "http"}, "http://[::1]:8321"),
        ({"host": "http://[::1]", "port": 8321}, "http://[::1]:8321"),
        ({"host": "http://[::1]:8080", "port": 8321}, "http://[::1]:8080"),
        ({"port": 8321}, "https://api.tzafon.ai"),
    ],
    ids=str,
)
def test_a_host_may_be_given_in_many_ways(fields: dict[str, Any], base_url: str, connect: Any) -> None:
    assert find_hook(connect("c1", conn_type="lightcone", **fields)).settings.base_url == base_url


@pytest.mark.parametrize(
    "uri",
    [
        "lightcone://:sk_a@https%3A%2F%2Fexample.com%2Fbase",
        "lightcone://https://:sk_a@example.com%2Fbase",
    ],
)
def test_a_uri_may_hold_a_whole_address(uri: str, connect: Any) -> None:
    assert find_hook(connect("c1", uri)).settings.base_url == "https://example.com/base"


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "http://example.com"},
        {"host": "example.com", "schema": "http"},
        {"host": "example.com", "schema": "public"},
        {"host": "https://example.com:port", "port": 5},
        {"host": "https://user:pass-word@example.com"},
        {"host": "https://"},
        {"host": "https://[::1", "port": 5},
        {"host": "ftp://example.com"},
    ],
    ids=str,
)
def test_a_host_that_cannot_be_used_is_named(fields: dict[str, Any], connect: Any, find: Any) -> None:
    connect("c1", conn_type="lightcone", **fields)
    with pytest.raises(AgentTaskConfigurationError, match=r"^The host of connection 'c1'") as caught:
        _ = find("c1").settings
    assert "pass-word" not in str(caught.value)
    assert_shows_no_chain(caught.value)


WRONG_EXTRAS: dict[str, list[Any]] = {
    "timeout": [0, -1, "soon", True, [], {}, "nan", "inf", 1e300, 10**400, 1e-9, 86_401],
    "requests_per_second": [0, -1, "fast", False, [1], "nan", 1e300, 1e-300],
    "max_concurrent_tasks": [0, -1, 1.5, "1.5", "many", True, [2], {}, "nan", "inf", 1e300, 100_001],
    "verify": [0, 1, 5, [], {"ca": "x"}],
    "proxy": [5, True, [], "proxy.example.com:3128", "socks5://user:pass-word@example.com", "http://"],
    "allow_insecure_http": ["yes", 0, 1, "1", [], {}],
    "agent_id": [5, True, [], {"id": "a"}],
    "task_url": [5, True, [], "app.example.com/{task_id}", "https://user:pass-word@a.example/{task_id}"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_EXTRAS.items() for value in values], ids=repr
)
def test_an_extra_that_cannot_be_used_is_named(name: str, value: Any, connect: Any, find: Any) -> None:
    connect("c1", conn_type="shinzo", extra={"agent_id": "agt_1", name: value})
    with pytest.raises(AgentTaskConfigurationError, match=f"'{name}' of connection 'c1' must be") as caught:
        find("c1").get_task("t1")
    assert caught.value.is_final
    assert "pass-word" not in str(caught.value)
    assert_shows_no_chain(caught.value)


def test_every_extra_of_the_forms_is_in_the_table_of_wrong_values() -> None:
    assert {field.name for form in (LightconeHook.form, ShinzoHook.form) for field in form.fields} == set(
        WRONG_EXTRAS
    )


@pytest.mark.parametrize("extra", ["[1]", "5", '"text"', "{no json", "null"])
def test_an_extra_that_is_no_json_object_is_refused(
    extra: str, service: Any, connect: Any, find: Any
) -> None:
    connect("c1", conn_type=service.name, extra=extra)
    with pytest.raises(
        AgentTaskConfigurationError, match="The extra of connection 'c1' must be a JSON"
    ) as caught:
        find("c1").get_task("t1")
    assert_shows_no_chain(caught.value)


@pytest.mark.parametrize("password", ["", None, "  "])
def test_a_connection_without_a_key_is_refused(
    password: str | None, service: Any, connect: Any, find: Any
) -> None:
    connect("c1", conn_type=service.name, password=password)
    with pytest.raises(AgentTaskConfigurationError, match=r"connection 'c1' has no API key.*password field"):
        _ = find("c1").settings


def test_a_line_end_after_the_key_is_forgiven_and_one_inside_is_not(connect: Any, find: Any) -> None:
    connect("c1", conn_type="lightcone", password=f" {KEY}\r\n")
    assert find("c1").settings.api_key == KEY
    connect("c2", conn_type="lightcone", password=f"{KEY}\nX-Evil: 1")
    with pytest.raises(AgentTaskConfigurationError, match="API key of connection 'c2'") as caught:
        _ = find("c2").settings
    assert KEY not in str(caught.value)


def test_a_missing_connection_is_named(find: Any) -> None:
    for conn_id in ("not_there", "shinzo_default", "lightcone_default"):
        with pytest.raises(AgentTaskConfigurationError, match=f"'{conn_id}' {MISSING}") as caught:
            find(conn_id)
        assert_shows_no_chain(caught.value)


def test_a_missing_connection_is_named_by_the_hook_too(service: Any) -> None:
    hook = service.hook("not_there")
    with pytest.raises(AgentTaskConfigurationError, match=f"'not_there' {MISSING}") as caught:
        hook.start_task(**service.start, agent_id="agt_1")
    assert_shows_no_chain(caught.value)


@pytest.mark.parametrize("conn_type", ["http", "no_such_type", "", None])
def test_a_connection_of_another_type_is_refused(conn_type: str | None, connect: Any, find: Any) -> None:
    connect("c1", conn_type=conn_type)
    with pytest.raises(
        AgentTaskConfigurationError, match=r"'c1' has the type .*lightcone or shinzo"
    ) as caught:
        find("c1")
    assert_shows_no_chain(caught.value)


def test_a_connection_of_the_other_service_is_refused(connect: Any) -> None:
    connect("c1", conn_type="shinzo")
    with pytest.raises(
        AgentTaskConfigurationError, match="has the type 'shinzo', but the task needs lightcone"
    ):
        find_hook("c1", LightconeHook)
    assert type(find_hook("c1", ShinzoHook)) is ShinzoHook


def test_airflow_finds_the_hook_by_the_connection(service: Any, connect: Any) -> None:
    from airflow.sdk import BaseHook

    connect("c1", conn_type=service.name)
    hook = BaseHook.get_hook("c1")
    assert type(hook) is service.hook_class
    assert isinstance(hook, AgentTaskHook)
    assert hook.conn_id == "c1"


def test_the_variables_of_the_sdk_serve_where_the_default_connection_is_missing(
    monkeypatch: pytest.MonkeyPatch, find: Any
) -> None:
    monkeypatch.setenv("TZAFON_API_KEY", KEY)
    settings = find("lightcone_default").settings
    assert (settings.base_url, settings.api_key) == ("https://api.tzafon.ai", KEY)
    assert "TZAFON_API_KEY" in settings.source
    monkeypatch.setenv("LIGHTCONE_BASE_URL", "http://127.0.0.1:8321")
    assert find("lightcone_default").settings.base_url == "http://127.0.0.1:8321"
    assert LightconeHook().settings.base_url == "http://127.0.0.1:8321"
    assert LightconeHook().resolve_agent_id("a") == "a"


def test_the_variables_of_the_sdk_serve_no_other_connection(
    monkeypatch: pytest.MonkeyPatch, connect: Any, find: Any
) -> None:
    monkeypatch.setenv("TZAFON_API_KEY", "sk_of_the_environment")
    for conn_id in ("lightcone_defualt", "shinzo_default"):
        with pytest.raises(AgentTaskConfigurationError, match=f"'{conn_id}' does not exist"):
            find(conn_id)
    with pytest.raises(AgentTaskConfigurationError, match="'lightcone_defualt' does not exist"):
        LightconeHook("lightcone_defualt").get_conn()
    with pytest.raises(AgentTaskConfigurationError, match="'lightcone_default' does not exist"):
        find_hook("lightcone_default", ShinzoHook)
    connect("lightcone_default", conn_type="lightcone")
    assert find("lightcone_default").settings.api_key == KEY
    assert LightconeHook().settings.api_key == KEY


def test_a_wrong_address_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, find: Any) -> None:
    monkeypatch.setenv("TZAFON_API_KEY", KEY)
    monkeypatch.setenv("LIGHTCONE_BASE_URL", "http://example.com")
    with pytest.raises(AgentTaskConfigurationError, match="LIGHTCONE_BASE_URL"):
        _ = find("lightcone_default").settings


@pytest.mark.parametrize("key", ["sk_masked_1234567", "eyJhbGciOiJub25lIn0.e30.sig"])
def test_secrets_are_masked_in_logs(key: str, connect: Any, find: Any) -> None:
    from airflow.sdk.log import redact

    connect(
        "c1",
        conn_type="lightcone",
        password=f"{key}\n",
        extra={"proxy": "http://somebody:proxy-pass-word@proxy.example.com"},
    )
    _ = find("c1").settings
    assert redact(f"Bearer {key} by proxy-pass-word") == "Bearer *** by ***"


def test_the_key_of_the_environment_is_masked_in_logs(monkeypatch: pytest.MonkeyPatch, find: Any) -> None:
    from airflow.sdk.log import redact

    monkeypatch.setenv("TZAFON_API_KEY", "sk_environment_7654321")
    _ = find("lightcone_default").settings
    assert redact("it is sk_environment_7654321") == "it is ***"


def test_a_hook_shows_no_key(service: Any, connect: Any) -> None:
    connect("c1", conn_type=service.name)
    hook = find_hook("c1")
    client = hook.get_conn()
    for shown in (hook, hook.settings, client, client.settings):
        assert KEY not in repr(shown)
        assert KEY not in str(shown)


def test_no_extra_but_the_named_ones_is_read(connect: Any) -> None:
    others = {"api_key": "sk_other", "base_url": "https://evil.example.com", "headers": {"X": "1"}}
    hook = find_hook(connect("c1", conn_type="lightcone", extra=others))
    assert hook.settings == ClientSettings("https://api.tzafon.ai", KEY, source="connection 'c1'")


def assert_shows_no_chain(error: BaseException) -> None:
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert not re.search(re.escape(KEY), str(error))
