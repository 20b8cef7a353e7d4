"""The URL of a callback that a worker makes for a submission, and what it tells of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.log import redact

from airflow_agent_tasks.callbacks.token import CallbackToken, fingerprint, read_token
from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.lifecycle.callback import Callback, MakeCallback
from airflow_agent_tasks.worker.callbacks import make_callback

ID = UUID("01a22507-84bd-77a9-ae15-06fb43907a2f")
NOW = 1_777_900_000.0
SECRET = "a-secret-of-the-tests"
PUBLIC_SERVICE = "https://api.example.com"


@pytest.fixture(autouse=True)
def settings(monkeypatch: Any) -> Any:
    """Return a function that changes a setting of callbacks."""

    def change(name: str, value: str) -> None:
        monkeypatch.setenv(f"AIRFLOW__AGENT_TASKS__CALLBACK_{name}", value)

    change("SECRET", SECRET)
    change("BASE_URL", "https://airflow.example.com/team/")
    return change


@pytest.fixture(params=[str, UUID], ids=["id as text", "id"])
def task_instance(request: Any) -> Any:
    return SimpleNamespace(id=request.param(str(ID)))


def make(task_instance: Any, service_url: str = PUBLIC_SERVICE, key: str = "airflow-1") -> Callback:
    return make_callback(MakeCallback(key, NOW + 60), task_instance, service_url)


def test_the_url_has_a_token_of_the_submission(task_instance: Any) -> None:
    callback = make(task_instance)
    base_url, _, token = callback.url.rpartition("/")
    assert base_url == "https://airflow.example.com/team/agent-tasks/callback"
    said = CallbackToken(ID, fingerprint("airflow-1"))
    assert read_token([SECRET], token, now=NOW + 59) == said
    assert read_token([SECRET], token, now=NOW + 60) is None
    assert callback.address == "https://airflow.example.com/team/agent-tasks/callback/…"
    assert not callback.is_out_of_reach


def test_each_submission_has_a_url_of_its_own(task_instance: Any) -> None:
    urls = {make(task_instance, key=key).url for key in ("airflow-1", "airflow-2", "my own key", "\ud800")}
    assert len(urls) == 4


def test_the_newest_secret_signs(task_instance: Any, settings: Any) -> None:
    settings("SECRET", f"new,{SECRET}")
    token = make(task_instance).url.rpartition("/")[2]
    assert read_token(["new"], token, now=NOW)
    assert read_token([SECRET], token, now=NOW) is None


def test_logs_do_not_show_the_token(task_instance: Any) -> None:
    callback = make(task_instance)
    assert redact(f"could not call {callback.url}: 500") == "could not call " + (
        "https://airflow.example.com/team/agent-tasks/callback/***: 500"
    )


@pytest.mark.parametrize(
    ("base_url", "service_url", "is_out_of_reach"),
    [
        ("http://localhost:8080", PUBLIC_SERVICE, True),
        ("http://localhost:8080", "http://127.0.0.1:8090", False),
        ("https://10.0.0.5", PUBLIC_SERVICE, True),
        ("https://airflow.example.com", "http://127.0.0.1:8090", False),
    ],
)
def test_it_says_whether_the_service_can_reach_the_url(
    task_instance: Any, settings: Any, base_url: str, service_url: str, is_out_of_reach: bool
) -> None:
    settings("BASE_URL", base_url)
    callback = make(task_instance, service_url)
    assert callback.url.startswith(f"{base_url}/agent-tasks/callback/")
    assert callback.is_out_of_reach is is_out_of_reach


def test_without_a_secret_it_says_what_to_set(task_instance: Any, settings: Any, monkeypatch: Any) -> None:
    settings("SECRET", "")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "{FERNET_KEY}")
    with pytest.raises(AgentTaskConfigurationError, match=r"Set \[agent_tasks\] callback_secret"):
        make(task_instance)


def test_an_unusable_base_url_is_told(task_instance: Any, settings: Any) -> None:
    settings("BASE_URL", "airflow.example.com")
    with pytest.raises(AgentTaskConfigurationError, match=r"^\[agent_tasks\] callback_base_url must be"):
        make(task_instance)
