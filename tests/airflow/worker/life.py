"""The tries and clears of one Airflow task, as far as attaching or submitting goes."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.attach_or_submit import attach_or_submit
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from airflow_agent_tasks.worker.driver import Callbacks, Driver
from tests.task_settings import build_settings

LONG = {"steps": 100, "step_seconds": 10}


class Store(dict[str, Any]):
    """A task state store: outside a task's process there is none of Airflow's."""

    is_down = False

    def set(self, key: str, value: Any) -> None:
        self._check()
        self[key] = json.loads(json.dumps(value))

    def get(self, key: str, default: Any = None) -> Any:
        self._check()
        return super().get(key, default)

    def delete(self, key: str) -> None:
        self._check()
        self.pop(key, None)

    def _check(self) -> None:
        if self.is_down:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))


class Life:
    """One Airflow task with its tries and clears, counted as Airflow counts them."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.store = Store()
        self.task = SimpleNamespace(retries=1)
        self.try_number, self.max_tries = 0, 1
        self.fields: dict[str, Any] = {}
        self.script: dict[str, Any] = LONG
        self.settled_by: set[int] = set()
        self.on_uncertain_submit = "fail"
        self.agent_id: str | None = None
        self.started_at = 0.0

    def run_try(self) -> AgentTask:
        self.try_number += 1
        field = "instruction" if self.service == "lightcone" else "message"
        ti = SimpleNamespace(
            **{"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": -1, "id": uuid4()},
            **{"try_number": self.try_number, "max_tries": self.max_tries, "task": self.task},
            **{"start_date": datetime.now(timezone.utc), "log_url": "", "xcom_push": None},
        )
        conn_id = f"{self.service}_default"
        settings = build_settings(
            {field: f"#sandbox {json.dumps(self.script)}", **self.fields},
            conn_id=conn_id,
            pushes_xcoms=False,
            on_uncertain_submit=self.on_uncertain_submit,
            agent_id=self.agent_id,
            no_retry_on_exit_code=frozenset(self.settled_by),
        )
        callbacks = Callbacks(lambda: find_hook(conn_id), lambda **_: None, None, (), ())
        context: Any = {"ti": ti, "task_state_store": self.store}
        driver = Driver(settings, callbacks, context, logging.getLogger("attach"))
        found = driver.perform(driver.execution.load())
        task = driver.perform(attach_or_submit(driver.execution, found))
        assert driver.execution.started.agent_task_id == task.task_id
        self.started_at = driver.execution.started.started_at
        return task

    def clear(self) -> None:
        self.max_tries = self.try_number + self.task.retries

    def forget_answer(self) -> None:
        """Leave what a worker leaves that is lost while its start is on the way."""
        record = self.store[RECORD_KEY]
        self.store[RECORD_KEY] = {**record, "task_id": None, "agent_id": None, "submitted_at": 0.0}
