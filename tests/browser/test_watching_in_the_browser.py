"""
What the page of a task shows while its agent works: a live log, and links that lead where they say.

The screenshots in ``test-artefacts/task-pages`` are those that ``docs/images`` may hold.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from required_actions import RequiredActions
from visitor import Visitor

from airflow_agent_tasks.agent_task import TASK_LINK_KEY
from airflow_agent_tasks.lifecycle.pace import WRITE_INTERVAL
from lab.cluster.airflow_api import TaskInstance
from lab.cluster.processes import wait_until

POLL_INTERVAL = 0.5
SINGLE = f"""
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("company_research", schedule=None):
    ShinzoTaskOperator(
        task_id="research", message="{{{{ dag_run.conf['message'] }}}}", deferrable=True,
        poll_interval={POLL_INTERVAL},
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
STREAMED = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

with DAG("{dag_id}", schedule=None):
    LightconeTaskOperator(
        task_id="compare", instruction="{{{{ dag_run.conf['message'] }}}}", kind="browser",
        stream=True, stream_deltas=True, deferrable={deferrable},
    )
"""
DAGS = {
    "company_research.py": SINGLE,
    "mapped_research.py": MAPPED,
    "price_comparison.py": STREAMED.format(dag_id="price_comparison", deferrable=False),
    "price_watch.py": STREAMED.format(dag_id="price_watch", deferrable=True),
}
SETTINGS = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
WORKS = {"steps": 500, "step_seconds": 0.3}
ASKS = {"steps": 4, "step_seconds": 0.2, "ask": ["Which Meridian Robotics is meant?"]}
STEP_SECONDS = 14.0
#: It is queued until it is deferred, so that the trigger's first line is about its first step; and its steps
#: are longer than the time between two lines. So no line has to wait because of the one before it.
WORKS_SLOWLY = {
    "queued_seconds": 8.0,
    "steps": 6,
    "step_seconds": STEP_SECONDS,
    "titles": ["Searching", "Reading the annual report", "Counting employees", "Checking the sources"],
}
COMPARES = {
    "steps": 20,
    "step_seconds": 1.0,
    "deltas": (
        "I look for coffee machines with a grinder. The shop lists three of them. "
        "The first one costs 499 €, with delivery tomorrow. I open the second one. "
        "It costs 449 €, but the water tank is sold separately. I add the tank: 478 € in all. "
        "The third one is sold out. So the second one is the cheapest. "
        "I check the reviews before I recommend it. They praise the grinder, and nobody complains."
    ),
    "tool_calls": [
        {"name": "open_page", "arguments": {"url": "https://shop.example/coffee"}},
        {"name": "click", "arguments": {"text": "With grinder"}},
        {"name": "scroll", "arguments": {"pixels": 800}},
        {"name": "click", "arguments": {"text": "Add the water tank"}},
        {"name": "read_reviews", "arguments": {"stars": 5}},
    ],
    "screenshots": 4,
}
FOLDER = "task-pages"


def start(cluster: Any, dag_id: str, script: dict[str, Any], map_index: int = -1) -> TaskInstance:
    """Start a run, and return its task once its agent task has started."""
    purpose = "how many people work at Meridian Robotics" if "research" in dag_id else "what is cheapest"
    message = f"#sandbox {json.dumps(script)}\nFind out {purpose}."
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
def test_the_page_of_a_task_links_to_its_agent_task_from_the_first_second(
    dag_id: str,
    map_index: int,
    cluster: Any,
    visitor: Visitor,
    required_actions: RequiredActions,
    sandbox: Any,
) -> None:
    task = start(cluster, dag_id, WORKS, map_index)
    assert wait_until(lambda: read_links(cluster, task)["Agent task"] is not None, timeout=30)
    remote = find_remote_task(cluster, sandbox, task)
    stored_at = read_xcom_time(cluster, task, TASK_LINK_KEY)
    assert stored_at - remote["created_at"] <= 1.0

    required_actions.show(task, "details")
    link = visitor.page.get_by_role("link", name="Agent task", exact=True)
    link.wait_for()
    address = f"{sandbox.url}/_sandbox/tasks/{remote['task_id']}"
    assert link.get_attribute("href") == address
    # It leads away from Airflow: into a window that knows nothing of this one.
    assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener noreferrer")
    assert visitor.page.get_by_role("link", name="Question", exact=True).count() == 0
    with visitor.page.expect_popup() as opened:
        link.click()
    opened.value.get_by_role("heading", name=f"Agent task {remote['task_id']}").wait_for()
    assert opened.value.url == address
    opened.value.close()

    assert wait_until(lambda: find(cluster, task).state == "deferred", timeout=60)
    required_actions.show(task, "details")
    link.wait_for()
    visitor.page.get_by_role("row").filter(has_text=task.run_id).wait_for()  # for the picture
    visitor.take_screenshot("link" if map_index < 0 else "link-mapped", folder=FOLDER)
    cluster.api.mark_run(task, "failed")


def test_the_page_of_a_deferred_task_shows_each_step_within_seconds(
    cluster: Any, visitor: Visitor, required_actions: RequiredActions, sandbox: Any
) -> None:
    task = start(cluster, "company_research", WORKS_SLOWLY)
    assert wait_until(lambda: find(cluster, task).state == "deferred", timeout=60)
    # Not loaded again: it follows the log by itself.
    required_actions.show(task)
    for step in (1, 2):
        line = visitor.page.get_by_text(f"Running, step {step} of 6:")
        line.wait_for(timeout=3 * STEP_SECONDS * 1000)
        assert find(cluster, task).state == "deferred"
        assert re.search(r" \(\d+ s since the start\)$", line.inner_text().rstrip())
        changed_at = find_remote_task(cluster, sandbox, task)["started_at"] + step * STEP_SECONDS
        times = read_step_times(cluster, task)
        logged_at = times.pop(step)
        # A machine that was late to defer the task has written the trigger's first line just before.
        due_at = max([changed_at, *(at + WRITE_INTERVAL for at in times.values() if at < logged_at)])
        assert changed_at <= logged_at <= due_at + POLL_INTERVAL + 3.0
    visitor.take_screenshot("live-log", folder=FOLDER)
    assert visitor.errors == []
    cluster.api.mark_run(task, "failed")


@pytest.mark.parametrize(
    ("dag_id", "picture"),
    [("price_comparison", "streamed-log"), ("price_watch", "streamed-log-deferrable")],
    ids=["not deferrable", "deferrable"],
)
def test_the_page_of_a_streamed_task_shows_each_event_while_the_worker_runs(
    dag_id: str, picture: str, cluster: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = start(cluster, dag_id, COMPARES)
    required_actions.show(task)
    for line in (
        "Agent: I look for coffee machines with a grinder.",
        'Tool: open_page(url="https://shop.example/coffee")',
        "Screenshot 1",
        'Tool: click(text="With grinder")',
        "Agent: I open the second one.",
        "Step 10 of 20:",
    ):
        visitor.page.get_by_text(line).wait_for()
        assert find(cluster, task).state == "running"
    visitor.take_screenshot(picture, folder=FOLDER)
    # Airflow makes links of addresses: no bracket behind it is a part of one.
    visitor.page.get_by_role("link", name="https://shop.example/coffee", exact=True).wait_for()
    assert visitor.foreign_urls == []
    assert visitor.errors == []
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
    task = start(cluster, "company_research", ASKS)
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


def find_remote_task(cluster: Any, sandbox: Any, task: TaskInstance) -> dict[str, Any]:
    """Return the agent task of a task, as the sandbox has it."""
    task_id = cluster.api.read_xcoms(task, ["task_id"])["task_id"]
    found: dict[str, Any]
    (found,) = [remote for remote in sandbox.tasks() if remote["task_id"] == task_id]
    return found


def read_xcom_time(cluster: Any, task: TaskInstance, key: str) -> float:
    """Return when an XCom was stored, in seconds since 1970."""
    path = f"/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/xcomEntries/{key}"
    entry = cluster.api.request("GET", path, parameters={"map_index": task.map_index})
    return to_seconds(entry["timestamp"])


def read_step_times(cluster: Any, task: TaskInstance) -> dict[int, float]:
    """Return the time of the line about each step in the log, in seconds since 1970."""
    path = f"/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/logs/1"
    lines = cluster.api.request("GET", path, parameters={"full_content": True})["content"]
    found = [(re.match(r"Running, step (\d+) of ", line["event"]), line) for line in lines]
    return {int(step[1]): to_seconds(line["timestamp"]) for step, line in found if step}


def to_seconds(timestamp: str) -> float:
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
