"""The pattern of the address of an agent task's page: what is accepted, and what becomes of hostile ids."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from airflow_agent_tasks.hooks.task_url import build_task_url

PATTERN = "https://app.example.com/agents/{agent_id}/tasks/{task_id}"
HOSTILE = [
    *(
        "../../admin",
        "a b",
        '"><script>alert(1)</script>',
        "javascript:alert(1)",
        "x?y=1&z#f",
        "a/..",
        "%2e%2e",
    ),
    *("{agent_id}", "é", "日本", "\\1", "@evil.example", "a" * 256),
]


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "https://a.example/{task_id}",
            "http://localhost:8080/t?id={task_id}",
            "https://a.example/#/{task_id}",
        ),
        *(
            "https://a.example/{task_id}/{task_id}",
            "https://a.example/overview",
            " https://a.example/{task_id} ",
        ),
    ],
)
def test_an_address_is_read(pattern: str, connect: Any) -> None:
    connect("c1", conn_type="lightcone", extra={"task_url": pattern})
    assert LightconeHook("c1").settings.task_url == pattern.strip()


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_without_a_pattern_there_is_no_address(empty: Any, connect: Any) -> None:
    connect("c1", conn_type="lightcone", extra={"task_url": empty})
    assert build_task_url(LightconeHook("c1").settings.task_url, "tsk_1", None) is None


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "app.example.com/{task_id}",
            "ftp://a.example/{task_id}",
            "javascript:alert('{task_id}')",
            "https:///{task_id}",
        ),
        *("https://a.example/{run_id}", "https://a.example/{}", "https://a.example/{task_id", "//a.example"),
        *("https://a.example/{task_id.__class__}", "https://a.example/{task_id!r}", "https://a.example/}"),
        *(
            "https://{task_id}.example/",
            "https://a.example:{task_id}/",
            "{task_id}.example",
            "https://{task_id}",
        ),
        *("https://user:secret@a.example/{task_id}", "https://a.example/ {task_id}", "https://a.example/\nx"),
        *("https://a.example:port/", "https://[a.example/{task_id}", "https://a.example/{{task_id}}"),
        *('https://a.example/">{task_id}', "https://a.example\\{task_id}", "https://a.example/{agent_id}", 7),
    ],
)
def test_another_pattern_is_refused_before_anything_is_sent(pattern: Any, connect: Any) -> None:
    connect("c1", conn_type="lightcone", extra={"task_url": pattern})
    with pytest.raises(AgentTaskConfigurationError, match="'task_url' of connection 'c1' must be") as refused:
        LightconeHook("c1").start_task(instruction="Go.")
    assert str(pattern).strip() not in str(refused.value)


def test_the_refusal_names_the_placeholders_of_the_service(connect: Any) -> None:
    connect("c1", conn_type="shinzo", extra={"task_url": "https://a.example/{run_id}"})
    with pytest.raises(
        AgentTaskConfigurationError, match=r"no placeholder but \{task_id\} and \{agent_id\}, "
    ):
        _ = ShinzoHook("c1").settings
    connect("c1", conn_type="lightcone", extra={"task_url": "https://a.example/{run_id}"})
    with pytest.raises(AgentTaskConfigurationError, match=r"no placeholder but \{task_id\}, "):
        _ = LightconeHook("c1").settings


@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_id_stays_one_segment_of_the_path(hostile: str) -> None:
    address = build_task_url(PATTERN, hostile, hostile)
    assert address is not None
    parts = urlsplit(address)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("https", "app.example.com", "", "")
    *_, agents, agent_id, tasks, task_id = parts.path.split("/")
    assert (agents, unquote(agent_id), tasks, unquote(task_id)) == ("agents", hostile, "tasks", hostile)
    assert not set(" \"'<>\\{}").intersection(address)


@pytest.mark.parametrize("unusable", ["", ".", "..", " .. ", "None", "a\nb", "a\u202eb", "\ud800", "a" * 257])
def test_an_id_that_leads_elsewhere_gets_no_address(unusable: str) -> None:
    assert build_task_url(PATTERN, unusable, "agt_1") is None
    assert build_task_url(PATTERN, "tsk_1", unusable) is None
    assert build_task_url("https://a.example/{task_id}", "tsk_1", unusable) == "https://a.example/tsk_1"


def test_an_agent_that_is_unknown_gets_no_address() -> None:
    assert build_task_url(PATTERN, "tsk_1", None) is None
