"""The links on the page of a task: they stand there while it waits, and lead where they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from required_actions import RequiredActions
from visitor import Visitor

from lab.cluster.airflow_api import TaskInstance
from lab.cluster.processes import wait_until

SINGLE = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("company_research", schedule=None):
    ShinzoTaskOperator(
        task_id="research", message="{{ dag_run.conf['message'] }}", deferrable=True, poll_interval=0.5
    )
"""
MAPPED = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("mapped_research", schedule=None):
    ShinzoTaskOperator.partial(task_id="research", deferrable=True, poll_interval=0.5).expand(
        message=["{{ dag_run.conf['message'] }}"] * 2
    )
"""
DAGS = {"company_research.py": SINGLE, "mapped_research.py": MAPPED}
SETTINGS = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
WORKS = {"steps": 500, "step_seconds": 0.3}
ASKS = {"steps": 4, "step_seconds": 0.2, "ask": ["Which Meridian Robotics is meant?"]}


def start(cluster: Any, dag_id: str, script: dict[str, Any], map_index: int) -> TaskInstance:
    """Start a run, and return its task once its agent task has started."""
    message = f"#sandbox {json.dumps(script)}\nFind out how many people work at Meridian Robotics."
    run_id = cluster.api.trigger(dag_id, {"message": message})
    found: list[TaskInstance] = []

    def has_agent_task() -> bool:
        tasks = cluster.api.list_tasks(dag_id, run_id)
        found[:] = [each for each in tasks if each.map_index == map_index]
        return bool(found) and "task_id" in cluster.api.read_xcoms(found[0], ["task_id"])

    assert wait_until(has_agent_task, timeout=90)
    return found[0]


PLACES = pytest.mark.parametrize(
    ("dag_id", "map_index"), [("company_research", -1), ("mapped_research", 1)], ids=["single", "mapped"]
)


@PLACES
def test_the_page_of_a_task_that_waits_links_to_its_agent_task(
    dag_id: str,
    map_index: int,
    cluster: Any,
    visitor: Visitor,
    required_actions: RequiredActions,
    sandbox: Any,
) -> None:
    task = start(cluster, dag_id, WORKS, map_index)
    assert wait_until(lambda: find(cluster, task).state == "deferred", timeout=60)
    required_actions.show(task, "details")
    link = visitor.page.get_by_role("link", name="Agent task", exact=True)
    link.wait_for()
    visitor.page.get_by_role("row").filter(has_text=task.run_id).wait_for()  # for the picture
    visitor.take_screenshot("link" if map_index < 0 else "link-mapped", folder="task-pages")
    task_id = cluster.api.read_xcoms(task, ["task_id"])["task_id"]
    assert link.get_attribute("href") == f"{sandbox.url}/_sandbox/tasks/{task_id}"
    # It leads away from Airflow: into a window that knows nothing of this one.
    assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener noreferrer")
    assert visitor.page.get_by_role("link", name="Question", exact=True).count() == 0
    cluster.api.mark_run(task, "failed")


@PLACES
def test_the_page_of_a_task_whose_agent_asks_links_to_the_form_until_it_is_answered(
    dag_id: str, map_index: int, cluster: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = start(cluster, dag_id, ASKS, map_index)
    required_actions.wait_for_question(task, 1)
    required_actions.show(task, "details")
    visitor.page.get_by_role("link", name="Question", exact=True).click()
    required_actions.form.wait_for()
    assert required_actions.subject == "Question 1: Which Meridian Robotics is meant?"
    required_actions.write_reply("The one in Lyon.")
    required_actions.choose("Send")
    assert wait_until(lambda: find(cluster, task).state == "success", timeout=60)
    required_actions.show(task, "details")
    visitor.page.get_by_role("link", name="Agent task", exact=True).wait_for()
    assert visitor.page.get_by_role("link", name="Question", exact=True).count() == 0
    cluster.api.mark_run(task, "failed")


def test_a_task_that_is_marked_while_its_agent_asks_loses_the_link_to_the_form(
    cluster: Any, required_actions: RequiredActions
) -> None:
    task = start(cluster, "company_research", ASKS, -1)
    required_actions.wait_for_question(task, 1)
    assert read_links(cluster, task)["Question"]
    cluster.api.mark(find(cluster, task), "failed")
    assert wait_until(lambda: read_links(cluster, task)["Question"] is None, timeout=30)
    assert read_links(cluster, task)["Agent task"]


def read_links(cluster: Any, task: TaskInstance) -> dict[str, Any]:
    path = f"/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/links"
    found = cluster.api.request("GET", path, parameters={"map_index": task.map_index})
    links: dict[str, Any] = found["extra_links"]
    return links


def find(cluster: Any, task: TaskInstance) -> TaskInstance:
    found: TaskInstance
    tasks = cluster.api.list_tasks(task.dag_id, task.run_id)
    (found,) = [each for each in tasks if each.label == task.label]
    return found
