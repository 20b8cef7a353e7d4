"""The links on the page of a task: to the agent task on its service, and to the form of an open question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import BaseXCom

from airflow_agent_tasks.agent_task import QUESTION_LINK_KEY, TASK_LINK_KEY
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.task_url import build_task_url
from airflow_agent_tasks.lifecycle.commands import Command, PushId, PushQuestions
from airflow_agent_tasks.logger_protocol import Log


class Links:
    """
    Stores the links of one task instance where Airflow looks for them, as soon as they are known.

    Airflow keeps a link in XCom, and writes it only at the end of an execution, even with
    ``do_xcom_push=False``. It reads the stored text as it is, so the links bypass a custom XCom backend. A
    failure is only logged.

    :param task_instance: The task instance.
    :param find_hook: Returns the hook, whose connection has the pattern of the page's address.
    :param log: The task's log.
    """

    def __init__(self, task_instance: Any, find_hook: Callable[[], AgentTaskHook], log: Log) -> None:
        self._ti = task_instance
        self._find_hook = find_hook
        self._log = log
        #: The stored links by key, None for one that is not there: each change is a round trip.
        self._stored: dict[str, str | None] = {TASK_LINK_KEY: None}

    def perform(self, command: Command[Any]) -> None:
        """Perform one command of the lifecycle."""
        match command:
            case PushId(started):
                self.show_task(started.agent_task_id, started.agent_id)
            case PushQuestions(questions):
                self._store(QUESTION_LINK_KEY, self._build_form_url() if questions.is_asking else None)

    def show_task(self, task_id: str, agent_id: str | None) -> None:
        """Link to the page of an agent task, if the connection has a pattern for its address."""
        try:
            hook = self._find_hook()
            url = build_task_url(hook.settings.task_url, task_id, hook.resolve_agent_id(agent_id))
        except Exception as error:
            self._log.warning("Could not build the link to the agent task: %r", error)
        else:
            if url and url != self._stored.get(TASK_LINK_KEY):
                # Airflow shows links in another tab than the log.
                self._log.info("Watch the agent at %s", url)
            self._store(TASK_LINK_KEY, url)

    def _build_form_url(self) -> str:
        page: str = self._ti.log_url
        return f"{page.partition('?')[0]}/required_actions"

    def _store(self, key: str, url: str | None) -> None:
        if self._stored.get(key, "unknown") == url:
            return
        ti = self._ti
        names = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
        try:
            if url is None:
                BaseXCom.delete(key, **names)
            else:
                BaseXCom.set(key, url, **names)
        except Exception as error:  # would end the wait, or hide why it ended
            self._log.warning("Could not store the link %s: %r", key, error)
        else:
            self._stored[key] = url
