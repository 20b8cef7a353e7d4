"""Prints the log of a task while it runs, as its page in the Airflow UI shows it, and follows its link."""

from __future__ import annotations

import threading
from types import TracebackType

import requests

from lab.cluster.airflow_api import AirflowApi, AirflowApiError, TaskInstance
from lab.command_line import log_progress
from lab.demo.expected_runs import ExpectedLive

#: The link's name in the Airflow UI.
LINK_NAME = "Agent task"
#: The line after which everything in the log is about the agent.
FIRST_WORDS = ("Started ", "Already started: ")
#: Seconds between two looks.
INTERVAL = 0.5


class LiveLog:
    """
    The log of one task, read by a thread while it runs: an answer to a question may take seconds.

    :param api: The API server, by a client that nothing else uses.
    :param expected: The task, and what has to be seen.
    :param run_id: The run of its DAG.
    """

    def __init__(self, api: AirflowApi, expected: ExpectedLive, run_id: str) -> None:
        self._api = api
        self._expected = expected
        self._run_id = run_id
        self._lines: list[str] = []
        self._link: str | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> LiveLog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._is_over.wait(INTERVAL):
            try:
                self._print_news()
            except AirflowApiError as error:  # the server may be restarting
                log_progress(f"The log of {self._expected.dag_id} cannot be read now: {error}")

    def _print_news(self) -> None:
        """Print the new lines, and the link once it is there; nothing once the task has ended."""
        task = self._find_running()
        if task is None:
            return
        lines, link = list_agent_lines(self._api.read_log(task)), self._link or self._read_link(task)
        # Read before this: a line or link that came with the end would prove nothing.
        if self._find_running() is None:
            return
        for line in lines[len(self._lines) :]:
            log_progress(f"{task.dag_id}.{task.label}: {line}")
        self._lines = lines
        if link != self._link:
            log_progress(f"{task.dag_id}.{task.label}: the link to its agent task is {link}")
        self._link = link

    def check(self) -> list[str]:
        """Return a line for everything that was not seen while the task ran."""
        name = f"{self._expected.dag_id}.{self._expected.task_id}"
        missing = [text for text in self._expected.lines if not any(text in line for line in self._lines)]
        problems = [f"{name}: {text!r} was not in its log while it ran" for text in missing]
        if self._link is None:
            return [*problems, f"{name}: there was no link to its agent task while it ran"]
        response = requests.get(self._link, timeout=30)
        if not response.ok or self._expected.on_page not in response.text:
            problems.append(
                f"{name}: {self._link} is not the page of its agent task ({response.status_code})"
            )
        return problems

    def _find_running(self) -> TaskInstance | None:
        tasks = self._api.list_tasks(self._expected.dag_id, self._run_id)
        return next(
            (task for task in tasks if task.task_id == self._expected.task_id and task.state == "running"),
            None,
        )

    def _read_link(self, task: TaskInstance) -> str | None:
        path = f"/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/links"
        links = self._api.request("GET", path, parameters={"map_index": task.map_index})
        return links["extra_links"].get(LINK_NAME) or None


def list_agent_lines(messages: list[str]) -> list[str]:
    """Return the messages of a task's log about its agent, without their levels."""
    texts = [message.partition(" ")[2].strip() for message in messages]
    starts = [place for place, text in enumerate(texts) if text.startswith(FIRST_WORDS)]
    return texts[starts[0] :] if starts else []
