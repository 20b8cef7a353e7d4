"""The section ``[agent_tasks]`` of Airflow's configuration: what is declared, read and documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow.configuration import conf

from airflow_agent_tasks.cli.check_installation import check_options
from airflow_agent_tasks.configuration import reader
from airflow_agent_tasks.configuration.options import (
    ARTIFACTS_PATH,
    MAX_CONCURRENT_POLLS,
    MAX_POLL_INTERVAL,
    MIN_POLL_INTERVAL,
    OPTIONS,
    SECTION,
    Option,
)
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"
NUMBERS = [option for option in OPTIONS if option.kind != "string"]


@pytest.fixture(autouse=True)
def unset(monkeypatch: Any) -> None:
    """Have no option set, and no warning given yet."""
    for option in OPTIONS:
        monkeypatch.delenv(build_name(option), raising=False)
    reader._warn_once.cache_clear()


def build_name(option: Option) -> str:
    return f"AIRFLOW__{SECTION.upper()}__{option.name.upper()}"


def test_airflow_knows_each_option_with_its_default(airflow_home: Any) -> None:
    for option in OPTIONS:
        assert conf.get(SECTION, option.name) == option.default


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_a_number_is_read_or_replaced_by_its_default(option: Option, monkeypatch: Any, caplog: Any) -> None:
    assert reader.read_number(option) == float(option.default)
    monkeypatch.setenv(build_name(option), f" {option.minimum:g} ")
    assert reader.read_number(option) == option.minimum
    assert not caplog.messages
    for wrong in ("many", "nan", "inf", "-1", "0.01" if option.kind == "float" else "2.5", "1\n2"):
        monkeypatch.setenv(build_name(option), wrong)
        for _ in range(2):
            assert reader.read_number(option) == float(option.default)
        (message,) = caplog.messages
        assert message.startswith(f"[agent_tasks] {option.name} is ")
        assert message.endswith(f"Using {option.default}.")
        caplog.clear()


def test_doctor_reports_a_number_that_makes_no_sense(monkeypatch: Any) -> None:
    assert [finding.verdict for finding in check_options()] == ["ok"]
    monkeypatch.setenv(build_name(MAX_CONCURRENT_POLLS), "0")
    (finding,) = check_options()
    assert (finding.verdict, finding.details) == (
        "failed",
        "[agent_tasks] max_concurrent_polls is '0', but must be a whole number of at least 1.",
    )


def test_a_trigger_polls_as_the_deployment_says(monkeypatch: Any) -> None:
    monkeypatch.setenv(build_name(MIN_POLL_INTERVAL), "7")
    monkeypatch.setenv(build_name(MAX_POLL_INTERVAL), "90")
    trigger = AgentTaskTrigger(
        conn_id="c", agent_task_id="t", agent_id=None, started_at=1000.0, poll_interval=None
    )
    wait = trigger.build_wait()
    assert wait.begin(now=1000.0).seconds == 7.0
    assert 81.0 <= wait.begin(now=1e6).seconds <= 90.0


def test_the_page_names_each_option_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == [option.name for option in OPTIONS]
    documented = dict(rows)
    for option in NUMBERS:
        assert documented[option.name] == option.default
    assert documented[ARTIFACTS_PATH.name] == "none"
