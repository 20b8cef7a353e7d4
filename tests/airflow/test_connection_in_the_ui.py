"""The connection form and its button "Test", over the REST calls that the page makes."""

from __future__ import annotations

import json
from typing import Any

import airflow
import pytest
import requests

from airflow_agent_tasks.documentation import link

HOST, MASKED = "http://127.0.0.1", "***"


@pytest.fixture
def call(api_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that calls the REST API as the page does."""
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    token = requests.get(f"{api_server}/auth/token", timeout=10).json()["access_token"]

    def call(method: str, path: str, body: Any = None, root: str = "api/v2") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(method, f"{api_server}/{root}/{path}", json=body, headers=headers, timeout=30)

    return call


@pytest.fixture
def saved(call: Any, agent_task_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that saves a connection to the sandbox and returns what the button then posts."""
    port = int(agent_task_sandbox.url.rpartition(":")[2])
    saved_ids: list[str] = []

    def save(conn_type: str, *, in_host: bool, extra: dict[str, Any]) -> dict[str, Any]:
        where = {"host": agent_task_sandbox.url} if in_host else {"host": HOST, "port": port}
        conn_id = f"of_the_form_{conn_type}_{in_host}"
        fields = {"connection_id": conn_id, "conn_type": conn_type, "extra": json.dumps(extra), **where}
        reply = call("POST", "connections", {**fields, "password": agent_task_sandbox.api_key})
        assert reply.status_code == 201, reply.text
        saved_ids.append(conn_id)
        # The page reads the connection back: the key is masked, and a port that is not there becomes 0.
        shown = call("GET", f"connections/{conn_id}").json()
        assert shown["password"] == MASKED
        texts = {name: shown[name] or "" for name in ("description", "host", "login", "schema", "password")}
        extra_text = shown["extra"] or "{}"
        return {
            **{"connection_id": conn_id, "conn_type": conn_type, "extra": extra_text},
            **{"port": int(shown["port"] or 0), **texts},
        }

    yield save
    for conn_id in saved_ids:
        call("DELETE", f"connections/{conn_id}")


TYPES = [("lightcone", {}), ("shinzo", {"agent_id": "agt_sandbox"})]


@pytest.mark.parametrize(("conn_type", "extra"), TYPES)
def test_the_button_tests_a_saved_connection_that_has_a_port(
    call: Any, saved: Any, agent_task_sandbox: Any, conn_type: str, extra: dict[str, Any]
) -> None:
    reply = call("POST", "connections/test", saved(conn_type, in_host=False, extra=extra))
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"status": True, "message": f"{conn_type.title()} accepted the key."}
    assert len(agent_task_sandbox.requests()) == 1


@pytest.mark.parametrize(("conn_type", "extra"), TYPES)
def test_the_button_tests_a_connection_before_it_is_saved(
    call: Any, agent_task_sandbox: Any, conn_type: str, extra: dict[str, Any]
) -> None:
    body = {
        **{"connection_id": "not_yet", "conn_type": conn_type, "extra": json.dumps(extra), "port": 0},
        **{"host": agent_task_sandbox.url, "login": "", "schema": "", "description": ""},
    }
    reply = call("POST", "connections/test", {**body, "password": agent_task_sandbox.api_key})
    assert reply.json() == {"status": True, "message": f"{conn_type.title()} accepted the key."}
    reply = call("POST", "connections/test", {**body, "password": "sk_wrong"})
    assert reply.json()["status"] is False
    assert "401" in reply.json()["message"]


@pytest.mark.parametrize(("conn_type", "extra"), TYPES)
@pytest.mark.skipif(airflow.__version__ != "3.3.2", reason="the page of Airflow 3.3.2 is meant")
def test_without_a_port_the_button_fails_in_airflow_which_is_why_the_form_shows_one(
    call: Any, saved: Any, conn_type: str, extra: dict[str, Any]
) -> None:
    reply = call("POST", "connections/test", saved(conn_type, in_host=True, extra=extra))
    assert reply.status_code == 400
    assert "host or port to test differs" in reply.text


def test_the_form_shows_the_port_and_the_scheme_and_hides_the_login(call: Any) -> None:
    forms = {form["connection_type"]: form for form in call("GET", "connections/hook_meta", root="ui").json()}
    for conn_type, _ in TYPES:
        fields = forms[conn_type]["standard_fields"]
        assert {name for name, shown in fields.items() if shown and shown["hidden"]} == {"login"}
        assert (fields["url_schema"]["title"], fields["url_schema"]["placeholder"]) == ("Scheme", "https")
        assert fields["port"]["placeholder"] == "443"


@pytest.mark.parametrize("conn_type", ["lightcone", "shinzo"])
def test_each_extra_field_has_a_help_text_with_a_link_to_its_page(call: Any, conn_type: str) -> None:
    forms = call("GET", "connections/hook_meta", root="ui").json()
    (form,) = [form for form in forms if form["connection_type"] == conn_type]
    assert form["extra_fields"].keys() >= {"timeout", "verify", "proxy", "requests_per_second"}
    page = link("reference/connections#extra-fields")
    for field in form["extra_fields"].values():
        # Airflow shows a description, where there is one, instead of the Markdown.
        assert not field["description"]
        assert field["schema"]["description_md"].endswith(f"[More]({page})")
