"""
The page "Agent tasks" in the Airflow UI, as an admin, a viewer and a guest see it.

The screenshots in ``test-artefacts/agent-tasks-page`` are those that ``docs/images`` may hold.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect
from visitor import Visitor

from lab.cluster.processes import find_free_ports, wait_until

HERE = Path(__file__).parent
WORKS = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

SCRIPT = '#sandbox {"steps": 100, "step_seconds": 10}'
with DAG("DAG_ID", schedule=None):
"""
RESEARCH = (
    "    ShinzoTaskOperator(task_id='agent', message=SCRIPT, deferrable=True, agent_id='agt_research')\n"
)
BROWSE = "    LightconeTaskOperator(task_id='agent', instruction=SCRIPT, deferrable=True)\n"
MANY = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("DAG_ID", schedule=None):
    EmptyOperator.partial(task_id="agent").expand(doc=[str(number) for number in range(100)])
"""
GROUP = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup

with DAG("grouped", schedule=None), TaskGroup("sources"):
    EmptyOperator(task_id="first")
"""
FILLED = [f"companies_{number}" for number in range(5)]
DAGS = {
    "company_research.py": (WORKS + RESEARCH).replace("DAG_ID", "company_research"),
    "shop_tour.py": (WORKS + BROWSE).replace("DAG_ID", "shop_tour"),
    "secret_plans.py": (WORKS + RESEARCH).replace("DAG_ID", "secret_plans"),
    "grouped.py": GROUP,
    **{f"{dag_id}.py": MANY.replace("DAG_ID", dag_id) for dag_id in FILLED},
}
SETTINGS = {
    "PYTHONPATH": str(HERE),
    "AIRFLOW__CORE__AUTH_MANAGER": "limited_auth_manager.LimitedAuthManager",
}
FOLDER = "agent-tasks-page"


@pytest.fixture(scope="module")
def runs(cluster: Any) -> dict[str, str]:
    """The runs by DAG; each agent works."""
    runs = {
        dag_id: cluster.api.trigger(dag_id) for dag_id in ("company_research", "shop_tour", "secret_plans")
    }

    def are_deferred() -> bool:
        states = [task.state for one in runs.items() for task in cluster.api.list_tasks(*one)]
        return states == ["deferred"] * 3

    assert wait_until(are_deferred, timeout=120)
    return runs


@pytest.fixture(scope="module")
def make_token(cluster: Any) -> Callable[[str, str], str]:
    """Return a function that returns a token of a user with a role."""

    def make(name: str, role: str) -> str:
        command = [sys.executable, str(HERE / "limited_auth_manager.py"), name, role]
        result = subprocess.run(
            command, env=cluster.environment, capture_output=True, text=True, check=True, timeout=120
        )
        return result.stdout.strip().splitlines()[-1]

    return make


class AgentTasksPage:
    """The page in a window."""

    def __init__(self, visitor: Visitor, base_url: str) -> None:
        self.visitor = visitor
        self.window = visitor.page
        self._base_url = base_url

    def open(self, path: str = "/plugin/agent-tasks") -> AgentTasksPage:
        self.window.goto(self._base_url + path)
        expect(self.rows.first).to_be_visible(timeout=30_000)
        return self

    @property
    def rows(self) -> Locator:
        return self.window.locator(".at-table tbody tr")

    @property
    def notice(self) -> Locator:
        return self.window.locator(".at-page [role=status]")

    def find(self, dag_id: str) -> Locator:
        return self.rows.filter(has=self.window.get_by_role("link", name=dag_id, exact=True))

    def press(self, dag_id: str, action: str) -> None:
        self.find(dag_id).get_by_role("button", name=re.compile(f"^{action} ")).click()

    def search(self, text: str) -> None:
        self.window.get_by_role("searchbox", name="Search").fill(text)


@pytest.fixture
def page(visitor: Visitor, cluster: Any, runs: Any) -> AgentTasksPage:
    return AgentTasksPage(visitor, cluster.url)


@pytest.fixture
def log_in(
    browser: Browser, cluster: Any, runs: Any, make_token: Any, tmp_path: Path
) -> Iterator[Callable[[str, str], AgentTasksPage]]:
    """Return a function that returns the page in the window of a user with a role."""
    visitors = []

    def log_in(name: str, role: str) -> AgentTasksPage:
        visitor = Visitor(browser, cluster.url, tmp_path / name)
        visitors.append(visitor)
        # In the place of a log-in: everyone without a token is an admin here.
        visitor.page.set_extra_http_headers({"authorization": f"Bearer {make_token(name, role)}"})
        return AgentTasksPage(visitor, cluster.url)

    yield log_in
    for visitor in visitors:
        visitor.leave(keep_trace=False)


def test_an_agent_is_sent_a_message(page: AgentTasksPage, sandbox: Any) -> None:
    page.open()
    page.press("company_research", "Message")
    dialog = page.window.get_by_role("dialog")
    expect(dialog.get_by_role("textbox", name="Message")).to_be_focused()
    expect(dialog.get_by_role("button", name="Send")).to_be_disabled()
    page.window.keyboard.type("Use the London office.")
    page.visitor.take_screenshot("message", folder=FOLDER)
    dialog.get_by_role("button", name="Send").click()
    expect(page.notice).to_contain_text("Sent the message to agent task")
    sent = [one["body"] for one in sandbox.requests() if one["path"].endswith("/message")]
    assert {"message": "Use the London office."} in sent
    assert not page.visitor.errors


def test_an_agent_is_paused_resumed_and_stopped(page: AgentTasksPage, cluster: Any, runs: Any) -> None:
    page.open()
    row = page.find("shop_tour")
    page.press("shop_tour", "Pause")
    expect(row.locator("[data-column='Agent state']")).to_have_text("paused")
    page.press("shop_tour", "Resume")
    expect(row.locator("[data-column='Agent state']")).to_have_text("running")
    page.press("shop_tour", "Stop")
    dialog = page.window.get_by_role("dialog")
    page.window.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.press("shop_tour", "Stop")
    dialog.get_by_role("button", name="Stop").click()
    expect(page.notice).to_contain_text("Its Airflow task was marked failed.")
    expect(row.locator("[data-column='Task state']")).to_have_text("failed")
    (task,) = cluster.api.list_tasks("shop_tour", runs["shop_tour"])
    assert task.state == "failed"
    log = cluster.api.request("GET", "/eventLogs", parameters={"dag_id": "shop_tour", "limit": 100})
    events = [entry["event"] for entry in log["event_logs"]]
    assert {"agent_task.pause", "agent_task.resume", "agent_task.stop"} <= set(events)


def test_the_details_come_from_the_service(page: AgentTasksPage) -> None:
    page.open()
    page.find("company_research").get_by_role("button", name=re.compile("^Details ")).click()
    dialog = page.window.get_by_role("dialog")
    expect(dialog).to_contain_text("shinzo_default")
    expect(dialog).to_contain_text("running")
    page.window.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_viewer_sees_no_buttons(log_in: Any) -> None:
    page = log_in("eve", "viewer").open()
    expect(page.find("company_research")).to_be_visible()
    assert page.rows.get_by_role("button", name=re.compile("^(Message|Pause|Resume|Stop) ")).count() == 0


def test_a_guest_does_not_see_the_rows_of_a_dag_without_access(log_in: Any, page: AgentTasksPage) -> None:
    guest = log_in("guest", "user").open()
    expect(guest.find("company_research")).to_be_visible()
    assert guest.find("secret_plans").count() == 0
    expect(page.open().find("secret_plans")).to_be_visible()


def test_the_tabs_of_a_run_and_of_a_task_show_their_own(page: AgentTasksPage, runs: Any) -> None:
    run = f"/dags/company_research/runs/{runs['company_research']}"
    tabs = [f"{run}/plugin/agent-tasks-of-run", f"{run}/tasks/agent/plugin/agent-tasks-of-try"]
    for path in (*tabs, "/dags/company_research/tasks/agent/plugin/agent-tasks-of-task"):
        page.open(path)
        expect(page.find("company_research")).to_be_visible()
        assert page.rows.count() == 1


def test_the_tab_of_a_task_group_does_not_show_what_is_outside(page: AgentTasksPage, cluster: Any) -> None:
    page.window.goto(f"{cluster.url}/dags/grouped/tasks/group/sources/plugin/agent-tasks-of-task")
    expect(page.window.get_by_text("Open a task of this group to see its agent tasks.")).to_be_visible()
    assert not page.visitor.errors


def test_it_follows_the_dark_mode_and_works_below_a_prefix(
    cluster: Any, browser: Browser, runs: Any, tmp_path: Path
) -> None:
    (port,) = find_free_ports(1)
    address = f"http://127.0.0.1:{port}/airflow"
    usual = cluster.environment
    cluster.environment = {**usual, "AIRFLOW__API__BASE_URL": address}
    command = [cluster.python, "-m", "airflow", "api-server", "--port", str(port)]
    server = cluster.start_program("api-server-below-a-prefix", command)
    cluster.environment = usual
    visitor = Visitor(browser, address, tmp_path / "prefix")
    try:
        assert wait_until(lambda: "startup complete" in server.describe_log_end(200), timeout=120)
        page = AgentTasksPage(visitor, address)
        visitor.page.emulate_media(color_scheme="dark")
        page.open()
        assert (
            visitor.evaluate("getComputedStyle(document.querySelector('.at-page')).color") != "rgb(0, 0, 0)"
        )
        visitor.take_screenshot("dark", folder=FOLDER)
        page.find("company_research").get_by_role("button", name=re.compile("^Details ")).click()
        expect(visitor.page.get_by_role("dialog")).to_contain_text("shinzo_default")
        visitor.page.keyboard.press("Escape")
        page.find("company_research").get_by_role("link", name="agent", exact=True).click()
        visitor.page.wait_for_url(f"{address}/dags/company_research/runs/*/tasks/agent*")
        assert not visitor.errors
        assert not [url for url in visitor.foreign_urls if not url.startswith("blob:")]
    finally:
        visitor.leave(keep_trace=False)
        cluster.stop_program("api-server-below-a-prefix")


def test_five_hundred_are_listed_page_by_page_and_filtered(page: AgentTasksPage, cluster: Any) -> None:
    runs = {}
    for dag_id in FILLED:
        cluster.api.request("PATCH", f"/dags/{dag_id}", body={"is_paused": True})
        runs[dag_id] = cluster.api.trigger(dag_id)
    command = [sys.executable, "-m", "lab.benchmarks.fill_submissions", *FILLED]
    subprocess.run(command, env=cluster.environment, capture_output=True, check=True, timeout=120)
    page.open()
    expect(page.rows).to_have_count(50)
    total = page.window.get_by_role("navigation", name="Pages")
    expect(total).to_contain_text("1 to 50 of 503")
    page.visitor.take_screenshot("page", folder=FOLDER)
    total.get_by_role("button", name="Next").press("Enter")
    expect(total).to_contain_text("51 to 100 of 503")
    page.search("companies_3")
    expect(total).to_contain_text("1 to 50 of 100")
    page.window.get_by_role("combobox", name="State of the agent").select_option("awaiting_input")
    expect(total).to_contain_text("of 33")
    page.search("no such thing")
    expect(page.rows).to_have_text(["No agent tasks match."])
    # The page that someone looks at may be gone at the next refresh.
    page.search("")
    page.window.get_by_role("combobox", name="State of the agent").select_option("")
    expect(total).to_contain_text("1 to 50 of 503")
    for number in range(50, 501, 50):
        total.get_by_role("button", name="Next").press("Enter")
        expect(total).to_contain_text(f"{number + 1} to ")
    cluster.api.request("DELETE", f"/dags/companies_4/dagRuns/{runs['companies_4']}")
    expect(total).to_contain_text("401 to 403 of 403", timeout=20_000)
    expect(page.rows).to_have_count(3)
    assert not page.visitor.errors
