"""Airflow's pages for what a person has to decide, as the tests use them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from playwright.sync_api import Locator, Response
from visitor import Visitor

from lab.cluster.airflow_api import AirflowApi, TaskInstance
from lab.cluster.processes import wait_until

#: Milliseconds for a page to be there, on a busy machine.
PAGE_TIMEOUT = 30_000
#: Airflow 3.4 numbers the lines of a block.
WITHOUT_LINE_NUMBERS = """
block => {
    const copy = block.cloneNode(true);
    copy.querySelectorAll(".linenumber").forEach(number => number.remove());
    return copy.textContent;
}
"""
ENDED = ("success", "failed", "upstream_failed")


class RequiredActions:
    """
    The list of required actions, and the form of one task.

    :param visitor: Whose window shows them.
    :param api: Tells what a task waits for.
    """

    def __init__(self, visitor: Visitor, api: AirflowApi) -> None:
        self._page = visitor.page
        self._api = api
        self._page.set_default_timeout(PAGE_TIMEOUT)

    def wait_for_question(self, task: TaskInstance, number: int, *, timeout: float = 120) -> None:
        """Wait until the task waits for an answer to this question; numbers begin at 1."""
        seen: list[Any] = []

        def is_asked() -> bool:
            now = self._find(task)
            assert now.state not in ENDED, "\n".join([f"it is {now.state}:", *self._api.read_log(now)[-15:]])
            seen.append(now.state)
            if now.state != "awaiting_input":
                return False
            form = self._read(task)
            seen.append(form["subject"])
            return f"Question {number}" in form["subject"] and not form["response_received"]

        assert wait_until(is_asked, timeout=timeout), f"question {number} was not asked: {seen[-2:]}"

    def open_list(self, task: TaskInstance) -> Locator:
        """Show the list, and return the link in it that leads to the form of this task: its subject."""
        self._page.goto(f"{self._api.base_url}/required_actions?response_received=false")
        row = self._page.locator("tbody tr", has_text=task.run_id).filter(has_text=task.dag_id)
        subject = row.locator("a").first
        subject.wait_for()
        return subject

    def open_form(self, task: TaskInstance) -> Locator:
        """Show the form of a task, and return it."""
        self._page.goto(f"{self._api.base_url}{_build_page_path(task)}/required_actions")
        self._button("Send").wait_for()
        self._reply.wait_for()
        return self.form

    @property
    def form(self) -> Locator:
        """The form that is shown: subject, body, field and buttons."""
        return self._page.locator("footer", has=self._button("Send")).locator("xpath=..")

    @property
    def subject(self) -> str:
        """The subject in the form."""
        return self.form.locator("h2, p").first.inner_text()

    @property
    def question(self) -> str:
        """The question as the form shows it: the subject without its number, and the block that goes on."""
        _, _, title = self.subject.partition(": ")
        *rest, _ = self.blocks
        return "\n".join([title, *rest])

    @property
    def blocks(self) -> list[str]:
        """The fenced blocks in the body of the form; the last one holds the facts."""
        return [str(block.evaluate(WITHOUT_LINE_NUMBERS)) for block in self.form.locator("code[class]").all()]

    def measure_reply(self) -> tuple[float, float]:
        """Return where the field for the reply begins and ends, in pixels from the window's upper edge."""
        box = self._reply.bounding_box()
        assert box
        return box["y"], box["y"] + box["height"]

    def show(self, task: TaskInstance, tab: str = "") -> None:
        """
        Show a tab of a task's page, and wait until all of it is there.

        :param tab: The last part of its address; empty for the log.
        """
        self._page.goto(f"{self._api.base_url}{_build_page_path(task)}/{tab}".rstrip("/"))
        self._page.wait_for_load_state("networkidle")

    def write_reply(self, text: str) -> None:
        """Type into the field."""
        self._reply.fill(text)

    def choose(self, option: str) -> None:
        """Press one of the buttons, and wait until Airflow has taken it."""
        answer = self.press(option)
        assert answer.ok, f"{answer.status}: {answer.text()}"

    def press(self, option: str) -> Response:
        """Press one of the buttons, and return what Airflow says to it."""
        with self._page.expect_response(lambda r: r.request.method == "PATCH") as answer:
            self._button(option).click()
        return answer.value

    def answer_elsewhere(self, task: TaskInstance, reply: str) -> None:
        """Answer as another person does, away from this window."""
        answer = {"chosen_options": ["Send"], "params_input": {"reply": reply}}
        self._api.request("PATCH", _build_path(task), body=answer)

    def read_body(self, task: TaskInstance) -> str:
        """Return the body as Airflow has it just now, in Markdown."""
        return str(self._read(task)["body"])

    def _read(self, task: TaskInstance) -> Any:
        return self._api.request("GET", _build_path(task))

    def _find(self, task: TaskInstance) -> TaskInstance:
        tasks = self._api.list_tasks(task.dag_id, task.run_id)
        (found,) = [each for each in tasks if each.label == task.label]
        return found

    def _button(self, option: str) -> Locator:
        return self._page.get_by_test_id(f"hitl-option-{option}")

    @property
    def _reply(self) -> Locator:
        return self._page.locator("#element_reply")


def _build_path(task: TaskInstance) -> str:
    path = f"/dags/{task.dag_id}/dagRuns/{quote(task.run_id, safe='')}/taskInstances/{task.task_id}"
    return f"{path}/{task.map_index}/hitlDetails"


def _build_page_path(task: TaskInstance) -> str:
    path = f"/dags/{task.dag_id}/runs/{quote(task.run_id, safe='')}/tasks/{task.task_id}"
    return path if task.map_index < 0 else f"{path}/mapped/{task.map_index}"
