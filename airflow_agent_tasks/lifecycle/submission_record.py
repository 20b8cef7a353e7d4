"""What an Airflow task remembers of the agent task that it started, so that it never starts a second one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.lifecycle.question_log import Questions, pick_fields

#: The key in Airflow's task state store, which survives retries and clears.
RECORD_KEY = "agent_task"


@dataclass(frozen=True)
class Submission:
    """
    One start: recorded before the request as an intent, and again with the id once the answer came.

    :param idempotency_key: Distinguishes this start from others, on a service with idempotency keys.
    :param try_number: The try of the Airflow task that intended this start.
    :param max_tries: Airflow's ``max_tries`` in that try; only a clear changes it.
    :param task_id: The service's id of the agent task; None until the answer came.
    :param agent_id: The agent that runs it, on services that have agents.
    :param submitted_at: When the answer came, in seconds since 1970.
    :param conn_id: The Airflow connection to its service.
    :param on_kill_policy: ``"stop"`` or ``"leave"``: what happens to it when its Airflow task is ended.
    :param is_stopping: True from just before the agent task is stopped. A next try finishes the stop; else it
        would wait without end for an agent task that is paused.
    :param questions: What the agent has asked, and what was replied.
    """

    idempotency_key: str
    try_number: int
    max_tries: int
    task_id: str | None = None
    agent_id: str | None = None
    submitted_at: float = 0.0
    conn_id: str = ""
    on_kill_policy: str = "leave"
    is_stopping: bool = False
    questions: Questions = field(default_factory=Questions)

    @property
    def started(self) -> StartedTask | None:
        """The agent task, or None until the answer came."""
        return StartedTask(self.task_id, self.agent_id, self.submitted_at) if self.task_id else None

    def with_task(self, started: StartedTask) -> Submission:
        """Return the record of the answered start."""
        task_id, agent_id, submitted_at = started.agent_task_id, started.agent_id, started.started_at
        return replace(self, task_id=task_id, agent_id=agent_id, submitted_at=submitted_at)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        return {**asdict(self), "questions": self.questions.to_json()}

    @classmethod
    def from_json(cls, stored: Any) -> Submission | None:
        """Return the record that was stored, or None for anything else."""
        if not isinstance(stored, Mapping):
            return None
        known = pick_fields(cls, stored)
        try:
            known["questions"] = Questions.from_json(known.get("questions", ()))
        except (TypeError, KeyError, ValueError):
            # Of another version. They can be asked anew, but a second agent task must not be started.
            del known["questions"]
        try:
            submission = cls(**known)
        except TypeError:
            return None
        return submission if isinstance(submission.idempotency_key, str) else None


def build_idempotency_key(owner: Iterable[object], request: Mapping[str, Any]) -> str:
    """
    Return the key of one start: the same for the same owner and the same request only.

    :param owner: What the start belongs to: the Airflow task, and the try that intends it.
    :param request: The start fields; their fingerprint is part of the key, so that a service never answers
        one request with the task of another.
    """
    parts = [*map(str, owner), json.dumps(request, sort_keys=True, default=str)]
    # As JSON, so that no two lists of parts read alike.
    return f"airflow-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"
