"""
The tutorial, done as its reader does it: its own commands and DAG files, in real processes.

What the reader does in the UI is done by the requests that the UI sends. Ports are replaced, so that several
of these can run side by side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.airflow_api import AirflowApi, AirflowApiError, TaskInstance
from lab.cluster.airflow_environment import build_clean_environment
from lab.cluster.processes import find_free_ports, wait_until
from tests.documents.code_blocks import ROOT, list_code_blocks
from tests.documents.tutorial_shell import Terminal

PAGE = ROOT / "docs" / "tutorial.md"
RUN = "reader"
AGENT_TASK_ID = r"tsk_[0-9a-f]{16}"
#: Seconds; a busy machine needs several times what the page says.
START_TIMEOUT = 240
TASK_TIMEOUT = 180


class Reader:
    """
    Someone who follows the page.

    :param terminal: Where the commands are typed.
    :param ui_port: Instead of the page's 8080.
    :param sandbox_port: Instead of the page's 8321.
    """

    def __init__(self, terminal: Terminal, ui_port: int, sandbox_port: int) -> None:
        self.terminal = terminal
        self.api = AirflowApi(f"http://127.0.0.1:{ui_port}")
        self._ports = {"8080": str(ui_port), "8321": str(sandbox_port)}
        self._blocks = {block.title: block.source for block in list_code_blocks(PAGE) if block.title}
        self.unread = set(self._blocks)
        self.dags_folder = terminal.home / "agent-tutorial" / "airflow" / "dags"

    def read(self, title: str) -> str:
        """Return a block of the page, with the ports of this test."""
        self.unread.discard(title)
        return re.sub("8080|8321", lambda found: self._ports[found[0]], self._blocks[title])

    def type(self, title: str, *, timeout: float = 30.0) -> str:
        """Perform a block of commands, and return what it printed."""
        return self.terminal.run(self.read(title), timeout=timeout)

    def save(self, dag_id: str) -> None:
        """Save a DAG file where the page says."""
        (self.dags_folder / f"{dag_id}.py").write_text(self.read(f"dags/{dag_id}.py"))

    def trigger(self, dag_id: str) -> None:
        """Press Trigger, once the DAG is listed."""
        assert wait_until(lambda: dag_id in self.api.list_dag_ids(), timeout=START_TIMEOUT, interval=0.5), (
            "not listed"
        )
        # Not paused at its creation: that is what the settings of the page are for.
        body = {"logical_date": None, "conf": {}, "dag_run_id": RUN}
        self._press(partial(self.api.request, "POST", f"/dags/{dag_id}/dagRuns", body=body))

    def answer(self, dag_id: str, reply: str) -> dict[str, Any]:
        """Reply to the only open question of a DAG, and return its form."""
        (form,) = self.api.list_questions(dag_id)
        self._press(partial(self.api.answer, form, reply))
        return form

    def mark_failed(self, task: TaskInstance) -> None:
        """Mark a task as failed."""
        self._press(partial(self.api.mark, task, "failed"))

    def find(self, dag_id: str, task_id: str) -> TaskInstance:
        """Return a task as the UI shows it now."""
        (task,) = [task for task in self.api.list_tasks(dag_id, RUN) if task.task_id == task_id]
        return task

    def wait_for(self, dag_id: str, task_id: str, *states: str) -> list[str | None]:
        """Wait until a task is in the last of these states, and return those that it was seen in."""
        seen: list[str | None] = []

        def is_there() -> bool:
            state = self.find(dag_id, task_id).state
            if state not in seen:
                seen.append(state)
            return state == states[-1]

        assert wait_until(is_there, timeout=TASK_TIMEOUT, interval=0.5), self.describe(dag_id, task_id, seen)
        return [state for state in seen if state in states]

    def describe(self, dag_id: str, task_id: str, seen: Any) -> str:
        """Return the task's log, for the message of a test that fails."""
        return "\n".join([f"{dag_id}.{task_id}: {seen}", *self.api.read_log(self.find(dag_id, task_id))])

    def assert_log_shows(self, dag_id: str, task_id: str) -> None:
        """Compare the task's log with the line of it on the page; ids of agent tasks differ."""
        line = self.read(f"log of {dag_id}.{task_id}").strip()
        pattern = re.sub(AGENT_TASK_ID, AGENT_TASK_ID, re.escape(line))
        log = "\n".join(self.api.read_log(self.find(dag_id, task_id)))
        assert re.search(pattern, log), f"{line!r} is not in\n{log}"

    def assert_prints(self, title: str, **options: Any) -> None:
        """Perform a block of commands, and compare what it prints with the page."""
        printed = self.type(title, **options)
        assert printed.endswith(self.read(f"{title} prints")), f"{title} printed\n{printed}"

    def _press(self, send: Any) -> None:
        # Where Airflow's API server has blocked itself on SQLite, a reader presses the button again.
        for attempts_left in (2, 1, 0):
            try:
                send()
            except AirflowApiError as error:
                if "answered 409" in str(error) and attempts_left < 2:
                    return
                if "answered 500" not in str(error) or not attempts_left:
                    raise
            else:
                return


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "agent-tutorial"
    folder.mkdir()
    ui, sandbox, *log_servers = find_free_ports(4)
    environment = {
        **build_clean_environment(),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_servers[0]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_servers[1]),
    }
    with Terminal(tmp_path, environment) as terminal:
        terminal.run(f"cd {folder}")
        yield Reader(terminal, ui, sandbox)


def test_a_reader_gets_what_the_page_says(reader: Reader) -> None:
    set_up(reader)
    run_the_first_dag(reader)
    answer_the_first_question(reader)
    see_the_first_failure(reader)
    break_things(reader)
    # The package is installed already, and the fixture ends everything sooner than the page does.
    assert reader.unread == {"install", "clean up"}


def set_up(reader: Reader) -> None:
    reader.type("settings")
    reader.type("sandbox")
    reader.terminal.wait_for_output(reader.read("sandbox prints"))
    assert reader.read("connections") in reader.read("sandbox prints")
    reader.type("connections")
    assert reader.type("start", timeout=START_TIMEOUT).endswith(reader.read("start prints"))


def run_the_first_dag(reader: Reader) -> None:
    reader.save("first_agent")
    reader.trigger("first_agent")
    seen = reader.wait_for("first_agent", "research", "deferred", "success")
    assert seen == ["deferred", "success"]
    reader.wait_for("first_agent", "report", "success")
    reader.assert_log_shows("first_agent", "report")
    shown = json.loads(reader.read("XCom return_value of first_agent.research"))
    real = reader.api.read_xcoms(reader.find("first_agent", "research"))["return_value"]
    assert shown == {key: real[key] for key in shown}


def answer_the_first_question(reader: Reader) -> None:
    reader.save("agent_asks")
    reader.trigger("agent_asks")
    reader.wait_for("agent_asks", "research", "awaiting_input")
    reply = reader.read("reply to agent_asks.research").strip()
    form = reader.answer("agent_asks", reply)
    assert form["subject"] == reader.read("question of agent_asks.research").strip()
    reader.wait_for("agent_asks", "research", "success")
    (answer,) = reader.api.read_xcoms(reader.find("agent_asks", "research"), ["answers"])["answers"]
    assert (answer["reply"], answer["sent"]) == (reply, True)
    assert answer["answered_by"]["name"]
    reader.wait_for("agent_asks", "report", "success")
    reader.assert_log_shows("agent_asks", "report")


def see_the_first_failure(reader: Reader) -> None:
    reader.type("forget before agent_fails")
    reader.save("agent_fails")
    reader.trigger("agent_fails")
    assert "up_for_retry" in reader.wait_for("agent_fails", "order", "up_for_retry", "failed")
    reader.assert_log_shows("agent_fails", "order")
    reader.wait_for("agent_fails", "explain", "success")
    reader.assert_log_shows("agent_fails", "explain")
    reader.assert_prints("list after agent_fails")


def break_things(reader: Reader) -> None:
    reader.type("forget before slow_agent")
    reader.save("slow_agent")
    reader.trigger("slow_agent")
    reader.wait_for("slow_agent", "read_reports", "deferred")
    reader.assert_prints("kill")
    reader.assert_prints("restart", timeout=START_TIMEOUT)
    before = read_progress(reader)
    assert wait_until(lambda: read_progress(reader) > before, timeout=TASK_TIMEOUT, interval=0.5), (
        "it does not move on"
    )
    task = reader.find("slow_agent", "read_reports")
    assert (task.state, task.tries) == ("deferred", 1)
    reader.mark_failed(task)
    # The page says: within a few seconds.
    wait_until(lambda: '"cancelled"' in reader.type("list after the mark"), timeout=TASK_TIMEOUT, interval=1)
    reader.assert_prints("list after the mark")


def read_progress(reader: Reader) -> int:
    """Return how many steps of the slow agent are in XCom."""
    xcoms = reader.api.read_xcoms(reader.find("slow_agent", "read_reports"), ["progress"])
    return int(xcoms["progress"]["steps_completed"]) if xcoms else 0
