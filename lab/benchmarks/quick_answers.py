"""Answers the questions of many agent tasks the moment they appear, and counts the tasks that then fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lab.benchmarks.percentile import percentile
from lab.cluster.airflow_api import AirflowApi, AirflowApiError
from lab.cluster.airflow_cluster import RUN_END_STATES, AirflowCluster
from lab.cluster.cluster_programs import ClusterTimeoutError
from lab.cluster.processes import wait_until
from lab.command_line import log_progress

DAG_ID = "quick_answers"
#: Seconds between two requests for the open forms.
LOOK_INTERVAL = 0.2
#: Seconds within which a run must end: 200 answers take three minutes on two idle processors.
RUN_TIMEOUT = 1800.0
#: Number of answers that are sent concurrently.
SENDERS = 40
#: How often an answer that Airflow did not accept is sent again: SQLite may be locked for too long.
ATTEMPTS = 5
#: Airflow's message for a question that has already been answered.
TAKEN = "has already been updated"


def build_dag(tasks: int, questions: int) -> str:
    """Return the source of a DAG whose mapped tasks each ask this many questions, one after the other."""
    script = {"steps": 2, "step_seconds": 0, "ask": [f"Number {number}?" for number in range(questions)]}
    return f"""
from datetime import timedelta

from airflow.sdk import DAG

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

SCRIPT = {"#sandbox " + json.dumps(script)!r}

with DAG({DAG_ID!r}, schedule=None, max_active_tasks={tasks}):
    # A task that fails asks again, so all questions are answered in the end.
    ShinzoTaskOperator.partial(
        task_id="agent", deferrable=False, poll_interval=1, retries=100, retry_delay=timedelta(seconds=1)
    ).expand(message=[f"{{SCRIPT}}\\nThis is number {{number}}." for number in range({tasks})])
"""


@dataclass
class Results:
    """
    The results of the answers.

    :param state: The final state of the DAG run, or ``running`` if it did not end in time.
    :param failed: How often Airflow failed a task because it resumed too soon.
    :param delays: Seconds that each answer took, in order of completion.
    :param errors: Answers that Airflow rejected, and why.
    """

    state: str = "running"
    failed: int = 0
    delays: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def describe_delays(self) -> str:
        """Return the minimum, the median, the 99th percentile and the maximum."""
        return " / ".join(f"{percentile(self.delays, share):.1f}" for share in (0.0, 0.5, 0.99, 1.0))


class Respondent:
    """
    Someone who answers every question of the DAG as soon as it is open.

    :param cluster: The Airflow.
    """

    def __init__(self, cluster: AirflowCluster) -> None:
        self._cluster = cluster
        self._results = Results()
        self._being_answered: set[int] = set()
        self._thread = threading.local()

    def run(self, on_look: Callable[[int], None]) -> Results:
        """
        Trigger the DAG, answer until it has ended, and return the results.

        :param on_look: Called before each request for the open forms, with the number of answers so far.
        """
        run_id = self._cluster.api.trigger(DAG_ID)
        reported_at = 0.0

        def answer_all_open() -> bool:
            nonlocal reported_at
            self._cluster.check_programs()
            on_look(len(self._results.delays))
            for form in self._cluster.api.list_questions(DAG_ID):
                index = form["task_instance"]["map_index"]
                if index not in self._being_answered:
                    self._being_answered.add(index)
                    senders.submit(self._answer, form, index)
            if (now := time.monotonic()) - reported_at > 30:
                reported_at = now
                log_progress(f"{len(self._results.delays)} questions answered.")
            self._results.state = self._cluster.api.read_run_state(DAG_ID, run_id)
            return self._results.state in RUN_END_STATES

        with ThreadPoolExecutor(SENDERS) as senders:
            if not wait_until(answer_all_open, timeout=RUN_TIMEOUT, interval=LOOK_INTERVAL):
                raise ClusterTimeoutError(f"{run_id} did not end in {RUN_TIMEOUT:.0f} s")
        self._results.failed = self._count_mismatches()
        return self._results

    def _answer(self, form: dict[str, Any], index: int) -> None:
        # One session per thread: sessions are not thread-safe.
        if not hasattr(self._thread, "api"):
            self._thread.api = AirflowApi(self._cluster.api.base_url)
        started_at = time.monotonic()
        for _ in range(ATTEMPTS):
            try:
                self._thread.api.answer(form, "Yes.")
            except AirflowApiError as error:
                self._results.errors.append(str(error))
                # Otherwise Airflow accepted an attempt whose response came too late for us.
                if TAKEN not in str(error):
                    continue
            self._results.delays.append(time.monotonic() - started_at)
            break
        self._being_answered.discard(index)

    def _count_mismatches(self) -> int:
        """Return how often Airflow mistook a resumed task for a killed one."""
        found = self._cluster.api.request("GET", "/eventLogs", parameters={"event": "state mismatch"})
        return int(found["total_entries"])
