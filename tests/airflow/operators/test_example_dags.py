"""Every example DAG is parsed as Airflow parses it, and run against the sandbox."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.conftest import FinishedRun, Person, run_file

EXAMPLES = Path(__file__).parents[3] / "example_dags"


@pytest.fixture
def run_example(airflow_home: Path, agent_task_sandbox: Any) -> Callable[..., FinishedRun]:
    """Return a function that runs one example from a copy in the DAGs folder, with quick agents."""
    shutil.copytree(EXAMPLES, airflow_home / "dags", dirs_exist_ok=True)

    def run(name: str, **replaced: str) -> FinishedRun:
        source, called, _ = (EXAMPLES / f"{name}.py").read_text().rpartition(f"\n{name}()\n")
        assert called
        quick = re.sub(r'"step_seconds": [0-9.]+', '"step_seconds": 0.05', source)
        for text, other in replaced.items():
            assert text in quick
            quick = quick.replace(text, other)
        quick = re.sub(r"retry_delay\": timedelta\(.*?\)", 'retry_delay": timedelta(0)', quick)
        return run_file(airflow_home / "dags" / f"{name}.py", f"{quick}\nexample = {name}()\n", "example")

    return run


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_is_parsed_without_an_error(airflow_home: Path, path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(path)
    assert not bag.import_errors
    assert list(bag.dags) == [path.stem]


def test_company_research_loads_one_answer_for_each_company(
    run_example: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COMPANY_RESEARCH_DB", str(tmp_path / "answers.db"))
    run = run_example("company_research")
    assert run.state == "success"
    with sqlite3.connect(tmp_path / "answers.db") as database:
        rows = database.execute("SELECT company, industry FROM answers ORDER BY company").fetchall()
    assert rows == [
        ("Adventure Works", "software"),
        ("Contoso", "software"),
        ("Fabrikam", "software"),
        ("Northwind Traders", "software"),
    ]


def test_code_review_blocks_the_merge_when_the_agent_found_an_error(run_example: Any) -> None:
    run = run_example("code_review")
    assert run.state == "success"
    assert run.xcom("block_merge") == ["src/login.js:17 Password is logged"]
    assert run.task_state("approve_merge") == "skipped"


def test_nightly_run_retries_skips_and_alerts_by_exit_code(run_example: Any) -> None:
    run = run_example("nightly_run")
    assert run.task_state("export_report") == "success"
    assert run.tries("export_report") == 2
    assert run.task_state("check_prices") == "skipped"
    assert run.task_state("renew_listing") == "failed"
    assert run.tries("renew_listing") == 1
    assert run.xcom("alert") == {"renew_listing": 2}
    assert run.state == "failed"


def test_a_quiet_nightly_run_sends_no_alert_and_succeeds(run_example: Any) -> None:
    run = run_example("nightly_run", **{"LOGIN_REFUSED = 2": "LOGIN_REFUSED = 0"})
    assert run.task_state("alert") == "skipped"
    assert run.task_state("fail_run") == "skipped"
    assert run.state == "success"


def test_submit_and_go_looks_after_running_agent_tasks(run_example: Any, agent_task_sandbox: Any) -> None:
    run = run_example("submit_and_go")
    assert run.state == "success"
    left = {(task["service"], task["status"]): task for task in agent_task_sandbox.tasks()}
    assert set(left) == {("lightcone", "completed"), ("shinzo", "completed"), ("shinzo", "cancelled")}
    messages = left["lightcone", "completed"]["messages"]
    assert [message["message"] for message in messages] == ["Saturday is fine."]


def test_release_notes_hands_results_from_function_to_agent_to_function(
    run_example: Any, agent_task_sandbox: Any
) -> None:
    run = run_example("release_notes")
    assert run.state == "success"
    written, published = agent_task_sandbox.tasks()
    assert published["request"]["instruction"].endswith(
        "Publish this on our blog: Faster, and no lost umlauts."
    )
    assert published["request"]["metadata"] == {"source": written["task_id"]}
    assert run.xcom("report") == f"{published['task_id']} ended with exit code 0"


def test_supplier_check_asks_a_person_twice_and_reports_who_decided(
    run_example: Any, api_server: str, agent_task_sandbox: Any
) -> None:
    with Person(api_server, "supplier_check", ["The one in Hamburg.", "Yes."]):
        run = run_example("supplier_check")
    assert run.state == "success"
    (agent_task,) = agent_task_sandbox.tasks()
    assert [message["message"] for message in agent_task["messages"]] == ["The one in Hamburg.", "Yes."]
    assert run.xcom("file_report") == [
        "Contoso GmbH, Hamburg: risk low",
        "There are two: Contoso Ltd. in London, and Contoso GmbH in Hamburg. Which one is meant? "
        "Anonymous: The one in Hamburg.",
        "Its accounts are in the paid register only. May I spend 12 EUR there? Anonymous: Yes.",
    ]


def test_office_order_asks_a_person_only_what_its_rule_leaves_open(
    run_example: Any, api_server: str, agent_task_sandbox: Any
) -> None:
    with Person(api_server, "office_order", ["No, repair the old one."]) as person:
        run = run_example("office_order")
    assert run.state == "success"
    assert [form["subject"] for form in person.forms] == ["Question 2: May I order a desk chair for 420 EUR?"]
    (agent_task,) = agent_task_sandbox.tasks()
    assert [message["message"] for message in agent_task["messages"]] == [
        "Yes, order it.",
        "No, repair the old one.",
    ]
    assert run.xcom("note_expenses") == {
        "May I order paper for 24 EUR?": "answer_routine",
        "May I order a desk chair for 420 EUR?": "Anonymous",
    }


def test_press_review_sends_the_prompt_of_its_file(run_example: Any, agent_task_sandbox: Any) -> None:
    agent_task_sandbox.script(match="the press wrote about Contoso", step_seconds=0)
    run = run_example("press_review")
    assert run.state == "success"
    (agent_task,) = agent_task_sandbox.tasks()
    message = agent_task["request"]["message"]
    assert message.startswith("Read what the press wrote about Contoso on ")
    assert message.endswith("Write short sentences. Name sources. Never guess.")
    assert "{" not in message


def test_a_prompt_whose_file_is_missing_starts_no_agent(
    run_example: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    missing = {'prompts/press_review.md" %}': 'prompts/nowhere.md" %}', "retries=1": "retries=0"}
    run = run_example("press_review", **missing)
    assert run.state == "failed"
    assert "prompts/nowhere.md" in capfd.readouterr().out
    assert agent_task_sandbox.requests() == []
