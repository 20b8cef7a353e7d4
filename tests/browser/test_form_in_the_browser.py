"""What the form of a question shows, measured in a window of 1,280 x 1,000 pixels."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from required_actions import RequiredActions
from visitor import WINDOW, Visitor

from lab.cluster.airflow_api import AirflowApiError, TaskInstance

ASKS = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("{dag_id}", schedule=None):
    ShinzoTaskOperator(
        task_id="research", message="{{{{ dag_run.conf['message'] }}}}", deferrable=False, poll_interval=0.5,
        {arguments}
    )
"""
LIMITED = """
        assigned_users=[{"id": "1", "name": "Ada Lovelace"}, {"id": "2", "name": "Grace *Hopper*"}],
        input_timeout=7200, input_default="The first, [please](http://evil.example/).",
"""
DAGS = {
    "company_research.py": ASKS.format(dag_id="company_research", arguments=LIMITED),
    "anyone_answers.py": ASKS.format(dag_id="anyone_answers", arguments="input_timeout=600"),
}
SETTINGS = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}

QUESTION = (
    "Two companies are called Meridian Robotics. Which of them is meant?\n\n"
    "1. Meridian Robotics SAS in Lyon builds robot arms for warehouses.\n"
    "2. Meridian Robotics, Inc. in Austin sells software for drones."
)
INSTRUCTION = "Find out what Meridian Robotics does and how many people work there."
LONG = {
    "words": "A long sentence that goes on and on. " * 250,
    "lines": "\n".join(f"{number}. Some line of it" for number in range(1, 400)),
    "wide": "这是一个很长的问题。" * 800,
    "word": "x" * 9_000,
}


def ask(cluster: Any, dag_id: str, question: str, instruction: str = INSTRUCTION) -> TaskInstance:
    script = json.dumps({"steps": 6, "step_seconds": 0.1, "ask": [question]})
    run_id = cluster.api.trigger(dag_id, {"message": f"#sandbox {script}\n{instruction}"})
    task: TaskInstance
    (task,) = cluster.api.list_tasks(dag_id, run_id)
    return task


def end(cluster: Any, task: TaskInstance) -> None:
    cluster.api.mark_run(task, "failed")


def test_the_form_shows_who_may_answer_until_when_and_what_comes_then(
    cluster: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    asked_at = datetime.now(timezone.utc)
    task = ask(cluster, "company_research", QUESTION)
    required_actions.wait_for_question(task, 1)
    form = required_actions.open_form(task)
    required_actions.write_reply("The first one, in Lyon.")
    visitor.take_screenshot("required-actions")

    facts = required_actions.blocks[-1]
    assert re.search(r"^Who may answer +Ada Lovelace, Grace \*Hopper\*$", facts, re.MULTILINE)
    until = re.search(r"^Answer by +(\S+), about 2 hours after the question$", facts, re.MULTILINE)
    assert until
    late = datetime.fromisoformat(until[1]) - asked_at - timedelta(hours=2)
    assert timedelta(0) <= late + timedelta(seconds=1) < timedelta(minutes=2)
    assert "this reply is sent: The first, [please](http://evil.example/)." in " ".join(facts.split())
    assert f"Instruction     {INSTRUCTION}" in facts
    text = form.inner_text()
    assert "#sandbox" not in text
    assert "reload it first" in text
    assert [text.count(line) for line in QUESTION.split("\n") if line] == [1, 1, 1]
    links = form.locator("a").evaluate_all("links => links.map(link => link.href)")
    assert [link for link in links if not link.startswith(f"{visitor.base_url}/")] == []
    # All of it, down to the buttons, for a question of this length.
    assert required_actions.measure_reply()[1] < WINDOW["height"] - 100
    end(cluster, task)


def test_the_form_says_that_everyone_may_answer_and_what_fails_then(
    cluster: Any, required_actions: RequiredActions
) -> None:
    task = ask(cluster, "anyone_answers", "Red or blue?")
    required_actions.wait_for_question(task, 1)
    text = required_actions.open_form(task).inner_text()
    assert text.count("Red or blue?") == 1
    (facts,) = required_actions.blocks
    assert "anyone allowed to answer for this DAG" in facts
    assert "about 10 minutes after the question" in facts
    assert "this task fails, and the agent is stopped" in facts
    end(cluster, task)


@pytest.mark.parametrize("name", LONG)
def test_the_field_for_the_reply_is_seen_without_scrolling(
    name: str, cluster: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = ask(cluster, "company_research", LONG[name], LONG[name])
    required_actions.wait_for_question(task, 1)
    required_actions.open_form(task)
    visitor.take_screenshot("form")
    top, bottom = required_actions.measure_reply()
    assert 0 < top < bottom <= WINDOW["height"]
    assert "The full question is in the log" in required_actions.form.inner_text()
    end(cluster, task)


def test_a_reply_that_is_too_long_is_refused_and_the_field_is_seen_as_before(
    cluster: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = ask(cluster, "company_research", LONG["word"], LONG["words"])
    required_actions.wait_for_question(task, 1)
    (form,) = [each for each in cluster.api.list_questions("company_research") if is_of(each, task)]
    with pytest.raises(AirflowApiError, match=r"answered 400.*10001 characters"):
        cluster.api.answer(form, "x" * 10_001)
    required_actions.open_form(task)
    visitor.take_screenshot("form")
    assert required_actions.measure_reply()[1] <= WINDOW["height"]
    end(cluster, task)


def is_of(form: dict[str, Any], task: TaskInstance) -> bool:
    return bool(form["task_instance"]["dag_run_id"] == task.run_id)
