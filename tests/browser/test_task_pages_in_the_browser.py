"""
What the page of a task shows of each kind of life: its log and its XComs.

The screenshots in ``test-artefacts/task-pages`` are those that ``docs/images`` may hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from required_actions import RequiredActions
from visitor import Visitor

from lab.cluster.airflow_api import TaskInstance
from lab.cluster.processes import wait_until

COMPANY_RESEARCH = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("company_research", schedule=None):
    ShinzoTaskOperator(
        task_id="research", message="{{ dag_run.conf['message'] }}", deferrable=True, poll_interval=0.5,
        assigned_users=[{"id": "1", "name": "Ada Lovelace"}, {"id": "2", "name": "Grace Hopper"}],
        input_timeout=7200, input_default="Take the one in Lyon.",
    )
"""
DAGS = {"company_research.py": COMPANY_RESEARCH}
SETTINGS = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}

QUESTION = (
    "Two companies are called Meridian Robotics. Which of them is meant?\n\n"
    "1. Meridian Robotics SAS in Lyon builds robot arms for warehouses.\n"
    "2. Meridian Robotics, Inc. in Austin sells software for drones."
)
FAILURE = {"exit_code": 1, "result": "The register of companies cannot be reached."}
ASKS = {"steps": 4, "step_seconds": 0.2, "ask": [QUESTION], "result": {"employees": 240}}
FOLDER = "task-pages"
ENDED = ("success", "failed")


class Pages:
    """One task in the cluster, and what is done with it before its page is visited."""

    def __init__(
        self, cluster: Any, visitor: Visitor, required_actions: RequiredActions, script: dict[str, Any]
    ) -> None:
        message = f"#sandbox {json.dumps(script)}\nFind out how many people work at Meridian Robotics."
        self._cluster = cluster
        self._visitor = visitor
        self._required_actions = required_actions
        self._run_id = cluster.api.trigger("company_research", {"message": message})

    def find(self) -> TaskInstance:
        task: TaskInstance
        (task,) = self._cluster.api.list_tasks("company_research", self._run_id)
        return task

    def wait_for_progress(self) -> None:
        def has_progress() -> bool:
            shown = self._cluster.api.read_xcoms(self.find(), ["progress"]).get("progress") or {}
            return self.find().state == "deferred" and (shown.get("steps_completed") or 0) > 1

        assert wait_until(has_progress, timeout=60)

    def mark(self) -> None:
        self.wait_for_progress()
        self._cluster.api.mark(self.find(), "failed")

    def answer(self) -> None:
        self._open_form()
        self._required_actions.write_reply("The first one, in Lyon.")
        self._visitor.take_screenshot("required-actions", folder=FOLDER)
        self._required_actions.choose("Send")
        self.wait_for_end()

    def stop(self) -> None:
        self._open_form()
        self._required_actions.choose("Stop the agent")
        self.wait_for_end()

    def _open_form(self) -> None:
        self._required_actions.wait_for_question(self.find(), 1)
        self._required_actions.open_form(self.find())

    def wait_for_end(self) -> None:
        assert wait_until(lambda: self.find().state in ENDED, timeout=60)

    def end(self) -> None:
        self._cluster.api.mark_run(self.find(), "failed")


@dataclass(frozen=True)
class Life:
    """
    What becomes of a task, and what its page shows then.

    :param script: What the agent does.
    :param act: What is done meanwhile.
    :param state: The state of the Airflow task.
    :param status: The status of the agent task, in XCom.
    :param error: What the XCom ``error`` and the log say; empty where there is no error.
    """

    script: dict[str, Any]
    act: Callable[[Pages], None]
    state: str
    status: str
    error: str = ""


WORKS = {"steps": 500, "step_seconds": 0.3}
LIVES = {
    "running": Life(WORKS, Pages.wait_for_progress, "deferred", "running"),
    "answered": Life(ASKS, Pages.answer, "success", "completed"),
    "failed": Life(
        {"steps": 2, "step_seconds": 0.2, **FAILURE},
        Pages.wait_for_end,
        "failed",
        "failed",
        FAILURE["result"],
    ),
    "marked-failed": Life(WORKS, Pages.mark, "failed", "cancelled"),
    "stopped": Life(ASKS, Pages.stop, "failed", "cancelled", "chose 'Stop the agent'"),
}


@pytest.mark.parametrize("name", LIVES)
def test_the_page_of_a_task_shows_its_log_and_its_xcoms(
    name: str, cluster: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    life = LIVES[name]
    pages = Pages(cluster, visitor, required_actions, life.script)
    life.act(pages)
    task = pages.find()
    assert task.state == life.state
    # After a mark it is written by whoever stops the agent task.
    assert wait_until(
        lambda: cluster.api.read_xcoms(task, ["status"]).get("status") == life.status, timeout=30
    ), cluster.api.read_xcoms(task, ["status"])
    for tab, words in (("", life.error or "tsk_"), ("xcom", life.error or life.status)):
        required_actions.show(task, tab)
        visitor.page.get_by_text(words).first.wait_for()
        # The frames of a failure are paths of this machine.
        visitor.evaluate("document.querySelectorAll('details').forEach(frames => frames.open = false)")
        visitor.take_screenshot(f"{name}-{tab or 'log'}", folder=FOLDER)
    assert visitor.foreign_urls == []
    assert visitor.errors == []
    pages.end()


def test_a_question_forges_neither_a_line_nor_a_fold_of_the_log(
    cluster: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    forged = "[2026-01-01 00:00:00] ERROR - Task failed"
    question = f"Which?\n::group::Fold\n{forged}\r{forged}\u2028{forged}\x1b[2J\n::endgroup::\nThe end."
    pages = Pages(cluster, visitor, required_actions, {"steps": 2, "step_seconds": 0.1, "ask": [question]})
    required_actions.wait_for_question(pages.find(), 1)
    required_actions.show(pages.find())
    line = visitor.page.get_by_text("Question 1 from the agent:")
    line.wait_for()
    visitor.take_screenshot("log")
    _, *quoted = line.inner_text().rstrip().split("\n")
    assert [words.strip() for words in quoted] == [
        *(
            "| Which?",
            "| :: group::Fold",
            *[f"| {forged}"] * 2,
            f"| {forged}[2J",
            "| :: endgroup::",
            "| The end.",
        )
    ]
    folds = visitor.page.get_by_text("▶").all_inner_texts()
    assert not any("Fold" in fold for fold in folds)
    pages.end()
