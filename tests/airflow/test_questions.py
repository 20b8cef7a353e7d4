"""The agent asks, and a program or a person answers: through ``dag.test()`` and Airflow's REST API."""

from __future__ import annotations

import json
from typing import Any

import pytest

BOTH_MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])
BOTH_SERVICES = pytest.mark.parametrize("kind", ["LightconeTaskOperator", "ShinzoTaskOperator"])


def ask(*questions: str, kind: str = "ShinzoTaskOperator", told: str = "Look.", **arguments: Any) -> str:
    script = {"steps": 2 * len(questions) + 2, "step_seconds": 0, "ask": questions, "result": "done"}
    field = "instruction" if kind.startswith("Lightcone") else "message"
    given = {field: f"#sandbox {json.dumps(script)}\n{told}", **arguments}
    return f"{kind}(task_id='agent', {', '.join(f'{name}={value!r}' for name, value in given.items())})"


def heard(sandbox: Any) -> list[str]:
    """Return what the agent was told, in order."""
    return [message["message"] for task in sandbox.tasks() for message in task["messages"]]


@BOTH_MODES
@BOTH_SERVICES
def test_three_questions_of_one_try_are_each_asked_and_answered_once(
    run_with_person: Any, agent_task_sandbox: Any, kind: str, deferrable: bool
) -> None:
    run, forms = run_with_person(
        ask("Which one?", "What colour?", "Sure?", kind=kind, deferrable=deferrable), ["One.", "Red.", "Yes."]
    )
    assert (run.state, run.tries("agent")) == ("success", 1)
    assert heard(agent_task_sandbox) == ["One.", "Red.", "Yes."]
    assert [form["subject"] for form in forms] == [
        "Question 1: Which one?",
        "Question 2: What colour?",
        "Question 3: Sure?",
    ]
    answers = run.xcom("agent", "answers")
    assert [
        (answer["number"], answer["question"], answer["reply"], answer["sent"]) for answer in answers
    ] == [
        (1, "Which one?", "One.", True),
        (2, "What colour?", "Red.", True),
        (3, "Sure?", "Yes.", True),
    ]
    assert answers[0]["answered_by"] == {"id": "Anonymous", "name": "Anonymous"}
