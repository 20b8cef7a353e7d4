"""The demo notices what its streamed task does not show while it runs."""

from __future__ import annotations

from lab.cluster.airflow_api import AirflowApi
from lab.demo.expected_runs import EXPECTED_RUNS, LIVE
from lab.demo.live_log import LiveLog, list_agent_lines


def test_the_log_is_about_the_agent_from_its_start_on() -> None:
    messages = [
        "info    DAG bundles loaded: dags-folder",
        "info    Started lightcone agent task tsk_1 (status running)",
        "warning The event stream broke off.",
        "info    Step 1 of 5: Started the browser",
    ]
    assert list_agent_lines(messages) == [
        "Started lightcone agent task tsk_1 (status running)",
        "The event stream broke off.",
        "Step 1 of 5: Started the browser",
    ]


def test_a_log_without_an_agent_has_no_line() -> None:
    assert list_agent_lines([]) == list_agent_lines(["info    Task started", "::group::Log"]) == []


def test_each_line_and_the_link_are_missed() -> None:
    problems = LiveLog(AirflowApi(""), LIVE, "run").check()
    assert len(problems) == len(LIVE.lines) + 1
    assert "no link" in problems[-1]


def test_the_streamed_task_is_one_of_the_demo() -> None:
    assert LIVE.task_id in EXPECTED_RUNS[LIVE.dag_id].tasks
