"""What ``airflow agent-tasks doctor`` finds out about the calls of services, over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_agent_tasks.airflow_compat.api_server import send_order
from airflow_agent_tasks.callbacks.settings import read_secrets
from airflow_agent_tasks.cli import check_api_server
from airflow_agent_tasks.cli.check_callbacks import check_callbacks
from airflow_agent_tasks.cli.finding import Finding
from airflow_agent_tasks.plugin import health_endpoint
from airflow_agent_tasks.services.http import Request
from tests.raw_server import NETWORK_VARIABLES, RawServer, Reply, cut, reply

PUBLIC = "http://airflow.example.com"
UNREACHABLE = "calls to http://airflow.example.com/agent-tasks/callback/ do not reach the plugin (status {})"


@pytest.fixture(autouse=True)
def only_our_settings(monkeypatch: Any) -> None:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "a key of the tests")
    # The API server of these tests has this process's settings, and reads them only once.
    monkeypatch.setattr(health_endpoint, "get_secrets", read_secrets)


@pytest.fixture
def open_to(monkeypatch: Any, api_server: str) -> Callable[..., None]:
    """Return a function that makes a server the one behind the public address, as a proxy would."""

    def open_to(server: str = api_server, variable: str = "AGENT_TASKS__CALLBACK_BASE_URL") -> None:
        monkeypatch.setenv(f"AIRFLOW__{variable}", PUBLIC)
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"{api_server}/execution/")
        monkeypatch.setenv("http_proxy", server)
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    return open_to


def find_faults() -> list[Finding]:
    return [finding for finding in check_callbacks() if finding.verdict != "ok"]


def test_a_deployment_without_callbacks_gets_one_quiet_row(api_server: str) -> None:
    (found,) = check_callbacks()
    assert (found.check, found.verdict, found.remedy) == ("callbacks", "ok", "")
    assert found.details == (f"not set up: services on the internet cannot reach {api_server}, so tasks poll")


def test_each_part_that_callbacks_need_is_found_in_order(open_to: Any) -> None:
    open_to()
    assert [(found.verdict, found.details) for found in check_callbacks()] == [
        ("ok", f"calls to {PUBLIC}/agent-tasks/callback/ reach the plugin"),
        ("ok", "the API server recognises the callbacks of this machine's tasks"),
    ]


def test_an_address_of_the_api_server_that_is_public_anyway_needs_no_setting(open_to: Any) -> None:
    open_to(variable="API__BASE_URL")
    (found,) = check_callbacks()
    assert (found.verdict, found.details.split("/", 3)[2]) == ("ok", "airflow.example.com")


def test_a_private_address_is_a_warning_and_is_called_all_the_same(api_server: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__CALLBACK_BASE_URL", api_server)
    private, *others = check_callbacks()
    assert (private.verdict, private.details) == (
        "warning",
        f"services on the internet cannot reach {api_server}",
    )
    assert private.remedy.startswith("Set [agent_tasks] callback_base_url to an address")
    assert [found.verdict for found in others] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("variable", "verdict"),
    [("AGENT_TASKS__CALLBACK_BASE_URL", "failed"), ("API__BASE_URL", "warning")],
)
def test_an_unusable_address_is_found(monkeypatch: Any, variable: str, verdict: str) -> None:
    monkeypatch.setenv(f"AIRFLOW__{variable}", "ftp://airflow.example.com")
    (found,) = check_callbacks()
    assert found.verdict == verdict
    assert "callback_base_url must be an http:// or https:// URL without user" in found.details


@pytest.mark.parametrize(
    ("answer", "details", "remedy"),
    [
        (
            reply(404),
            UNREACHABLE.format(404),
            "a path prefix is missing from [agent_tasks] callback_base_url",
        ),
        (reply(405), UNREACHABLE.format(405), 'Load the plugin in the API server; see the row "plugin"'),
        *(
            (reply(status, **fields), UNREACHABLE.format(status), "A proxy or a login page answers instead")
            for status, fields in (
                (401, {}),
                (403, {}),
                (302, {"location": "https://login.example.com"}),
                (200, {"body": "<html>", "kind": "text/html"}),
                (202, {"body": "<html>", "kind": "text/html"}),
                (502, {}),
            )
        ),
        (cut(), "closed the connection before the response was complete", "the certificate and the network"),
    ],
)
def test_what_stands_between_a_service_and_the_plugin_is_found(
    open_to: Any, answer: Reply, details: str, remedy: str
) -> None:
    with RawServer(answer) as proxy:
        open_to(proxy.url)
        (found,) = find_faults()
        (received,) = proxy.requests
    assert received.target.startswith(f"{PUBLIC}/agent-tasks/callback/")
    assert found.verdict == "failed"
    assert details in found.details
    assert remedy in found.remedy


def test_a_fault_of_an_address_that_nobody_chose_for_callbacks_is_a_warning(open_to: Any) -> None:
    with RawServer(reply(401)) as proxy:
        open_to(proxy.url, variable="API__BASE_URL")
        (found,) = check_callbacks()
    assert (found.verdict, found.details) == ("warning", UNREACHABLE.format(401))


def test_an_address_without_tls_is_found(monkeypatch: Any, api_server: str) -> None:
    with RawServer() as plain:
        monkeypatch.setenv("AIRFLOW__AGENT_TASKS__CALLBACK_BASE_URL", plain.url.replace("http", "https"))
        _, found = find_faults()
    assert "does not use https" in found.details


@pytest.mark.parametrize(
    ("variable", "verdict"),
    [("AGENT_TASKS__CALLBACK_BASE_URL", "failed"), ("API__BASE_URL", "warning")],
)
def test_a_missing_secret_is_found(open_to: Any, monkeypatch: Any, variable: str, verdict: str) -> None:
    open_to(variable=variable)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    (found,) = check_callbacks()
    assert (found.verdict, found.details) == (
        verdict,
        "there is no secret to sign the URLs of callbacks with",
    )
    assert found.remedy.startswith("Set [agent_tasks] callback_secret to the same value on the API servers")


def test_another_secret_in_the_api_server_is_found(
    open_to: Any, monkeypatch: Any, mocker: MockerFixture
) -> None:
    open_to()
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__CALLBACK_SECRET", "one of the tests")
    mocker.patch.object(health_endpoint, "get_secrets", return_value=["another of the tests"])
    (found,) = find_faults()
    assert found.verdict == "failed"
    assert found.details.startswith(
        "[agent_tasks] callback_secret (or, without it, [core] fernet_key) differs"
    )
    assert "of the tests" not in f"{found.details} {found.remedy}"


def test_an_api_server_with_an_earlier_version_is_outdated(open_to: Any, monkeypatch: Any) -> None:
    open_to()
    with RawServer(reply(200, {"version": "0.2.0", "misfits": [], "database_clock": 0.0})) as earlier:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", earlier.url)
        (found,) = find_faults()
    assert (found.verdict, found.remedy) == ("warning", "Install the same version on all machines.")


@pytest.mark.parametrize("status", [403, 404])
def test_what_the_other_rows_say_is_not_repeated(open_to: Any, monkeypatch: Any, status: int) -> None:
    open_to()
    with RawServer(reply(status)) as other:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", other.url)
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", other.url)
        (found,) = check_callbacks()
    assert found.verdict == "ok"


def test_a_doctor_of_an_earlier_version_gets_its_answer(api_server: str) -> None:
    order = Request("POST", check_api_server.PATH, "ask for its health", json={"do": "report health"})
    fields = send_order(api_server, order).to_json()
    assert fields["misfits"] == []
    assert fields["accepts_callbacks"] is False
