"""What an Airflow task remembers of the agent task that it started, so that it never starts a second one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, get_type_hints

import msgspec

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.question_log import Questions, Seconds

#: The key in Airflow's task state store, which survives retries and clears.
RECORD_KEY = "agent_task"

_Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
_Policy = Annotated[str, msgspec.Meta(pattern="^(stop|leave)$")]


@dataclass(frozen=True)
class Submission:
    """
    One start: recorded before the request as an intent, and again with the id once the answer came.

    :param idempotency_key: Distinguishes this start from others, on a service with idempotency keys.
    :param try_number: The try of the Airflow task that intended this start.
    :param max_tries: Airflow's ``max_tries`` in that try; only a clear changes it. None where the store has
        lost it: then a clear looks like a retry.
    :param task_id: The service's id of the agent task; None until the answer came.
    :param agent_id: The agent that runs it, on services that have agents.
    :param submitted_at: When the answer came, in seconds since 1970; 0.0 where it is not known.
    :param conn_id: The Airflow connection to its service.
    :param on_kill_policy: ``"stop"`` or ``"leave"``: what happens to it when its Airflow task is ended.
    :param is_stopping: True from just before the agent task is stopped. A next try finishes the stop; else it
        would wait without end for an agent task that is paused.
    :param questions: What the agent has asked, and what was replied.
    """

    idempotency_key: _Text
    try_number: int
    max_tries: int | None
    task_id: _Text | None = None
    agent_id: _Text | None = None
    submitted_at: Seconds = 0.0
    conn_id: str = ""
    on_kill_policy: _Policy = "leave"
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
    def from_json(cls, stored: Any) -> Submission:
        """
        Return the record that was stored. Damaged fields get their defaults: what counts is which agent task
        runs.

        :raises AgentTaskError: where it says neither which one that is, nor that a start was only intended.
            Final, because to start another one might double the work.
        """
        found = dict(_read_fields(stored)) if isinstance(stored, Mapping) else {}
        is_started = isinstance(stored, Mapping) and stored.get("task_id") is not None
        if not found.get("task_id" if is_started else "idempotency_key"):
            raise _build_refusal()
        return cls(**{"idempotency_key": "", "try_number": 0, "max_tries": None, **found})


_TYPES: Mapping[str, Any] = get_type_hints(Submission, include_extras=True)


def _read_fields(stored: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields that can be used; a later version may have added others."""
    for name, kind in _TYPES.items():
        value = stored.get(name)
        if name == "task_id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        try:
            if name == "questions":
                # Damaged ones can be asked anew, but a second agent task must not be started.
                yield name, Questions.from_json(stored.get(name, ()))
            elif name in stored:
                yield name, msgspec.convert(value, kind)
        except (msgspec.ValidationError, RecursionError):
            continue


def _build_refusal() -> AgentTaskError:
    error = AgentTaskError(
        f"Airflow's task state store holds something under the key {RECORD_KEY!r} that names no agent task: "
        "one that nobody knows of may be running for this Airflow task. Look for it on the service, and stop "
        f"it. Then delete the key (over REST: DELETE …/taskInstances/…/state-store/{RECORD_KEY}), and clear "
        "the task."
    )
    error.is_final = True
    return error


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
