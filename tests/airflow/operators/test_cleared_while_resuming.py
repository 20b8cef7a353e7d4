"""A task that is cleared while a worker resumes it: Airflow resumes the next try at the same point again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk import timezone
from airflow.sdk.exceptions import TaskDeferred

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from airflow_agent_tasks.lifecycle.trigger_event import build_callback_event, build_event
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from tests.airflow.conftest import LONG_SCRIPT
from tests.airflow.worker.life import Store


class Deferred:
    """A deferred task, and what its executions have stored."""

    def __init__(self) -> None:
        self.operator = ShinzoTaskOperator(task_id="agent", message=LONG_SCRIPT, deferrable=True)
        self.store = Store()
        self.ti = SimpleNamespace(
            **{"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": -1, "id": uuid4()},
            **{"try_number": 1, "max_tries": 0, "log_url": "", "task": self.operator},
            **{"start_date": timezone.utcnow(), "xcom_push": lambda **_: None},
        )
        self.context: Any = {"ti": self.ti, "task_state_store": self.store}
        with pytest.raises(TaskDeferred):
            self.operator.execute(self.context)

    def clear(self) -> None:
        self.ti.try_number, self.ti.max_tries, self.ti.id = 2, 1, uuid4()

    def build_event(self, kind: str) -> Any:
        record = self.store[RECORD_KEY]
        started = StartedTask(record["task_id"], record["agent_id"], record["submitted_at"])
        decision = Decision(Verdict.REACHED)
        return {
            "callback": build_callback_event(1),
            "trigger": build_event(started, decision, try_number=1),
            "earlier trigger": build_event(started, decision),
            "answer": {"chosen_options": ["Send"], "params_input": {"reply": "Yes."}},
        }[kind]

    def resume(self, event: Any) -> None:
        with pytest.raises(TaskDeferred):
            self.operator.resume_execution("execute_complete", {"event": event}, self.context)


EVENTS = ("callback", "trigger", "earlier trigger", "answer")


@pytest.fixture
def deferred(agent_task_sandbox: Any, airflow_home: Any) -> Deferred:
    return Deferred()


@pytest.mark.parametrize("kind", EVENTS)
def test_the_next_try_starts_over(deferred: Deferred, agent_task_sandbox: Any, kind: str) -> None:
    event = deferred.build_event(kind)
    deferred.clear()
    deferred.resume(event)
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["cancelled", "running"]


@pytest.mark.parametrize("kind", EVENTS)
def test_a_task_that_nobody_cleared_goes_on(deferred: Deferred, agent_task_sandbox: Any, kind: str) -> None:
    deferred.resume(deferred.build_event(kind))
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["running"]


def test_a_record_that_cannot_be_read_is_reported_by_the_execution(deferred: Deferred) -> None:
    event = deferred.build_event("answer")
    deferred.store[RECORD_KEY] = "damaged"
    with pytest.raises(AgentTaskError, match="is damaged"):
        deferred.resume(event)
