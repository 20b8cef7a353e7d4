"""The submission record: which agent task an Airflow task started, so that it never starts a second one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, get_type_hints

import msgspec

from airflow_agent_tasks.agent_task import AgentTask, StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.question_log import Questions, Seconds

#: The key in Airflow's task state store, which survives retries and clears.
RECORD_KEY = "agent_task"
#: The fields of a closed record. The first one lets a query of the database tell it from the others.
_CLOSED_FIELDS = (
    *("is_closed", "task_id", "agent_id", "submitted_at", "conn_id", "service", "status"),
    "max_tries",
)
#: The ``max_tries`` of a closed record: a version that does not know closed records takes it for one from
#: before a clear, and starts over.
_BEFORE_ANY_CLEAR = -1
#: How the JSON of a closed record begins, in the format in which Airflow stores it.
CLOSED_PREFIX = '{"is_closed": true,'

_Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
_Policy = Annotated[str, msgspec.Meta(pattern="^(stop|leave)$")]


@dataclass(frozen=True)
class Submission:
    """
    One start, recorded as an intent before the request, and again with the id after the response.

    :param idempotency_key: Distinguishes this start from others, on a service with idempotency keys.
    :param try_number: The try of the Airflow task that intended this start.
    :param max_tries: Airflow's ``max_tries`` in that try; only a clear changes it. None if the store has lost
        it; then a clear looks like a retry.
    :param task_id: The service's id of the agent task; None until the response came.
    :param agent_id: The agent that runs it, on services that have agents.
    :param submitted_at: When the response came, in seconds since 1970; 0.0 if unknown.
    :param conn_id: The Airflow connection to its service.
    :param on_kill_policy: What happens to it when someone ends its Airflow task: ``"stop"`` or ``"leave"``.
    :param is_stopping: True from just before the agent task is stopped. The next try finishes the stop;
        otherwise it would wait forever for a paused agent task.
    :param is_undelivered: True if the agent task completed but its result could not be stored. The next try
        takes it, even after a clear.
    :param questions: The agent's questions and the replies to them.
    :param is_over_budget: True from just before it is stopped because it passed its budget.
    :param result: Its result, if only its event stream had it; None otherwise.
    :param is_called_back: True if its service calls Airflow when the agent task changes.
    :param service: The service that runs it; empty in records of earlier versions.
    :param is_closed: True once the agent task has ended or was stopped, and no try will attach to it. The
        record is kept for those who look for the agent tasks of the last days.
    :param status: Its final status, if ``is_closed``.
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
    is_undelivered: bool = False
    questions: Questions = field(default_factory=Questions)
    result: Any = None
    is_over_budget: bool = False
    is_called_back: bool = False
    service: str = ""
    is_closed: bool = False
    status: str = ""

    @property
    def started(self) -> StartedTask | None:
        """The agent task, or None until the response came."""
        return StartedTask(self.task_id, self.agent_id, self.submitted_at) if self.task_id else None

    def is_from_before_clear(self, max_tries: int) -> bool:
        """
        Return whether the Airflow task was cleared after this start.

        A clear sets max_tries to the try number plus the retries, and nothing else changes it. Computing the
        first try from the retries would fail once a user edits them.

        :param max_tries: Airflow's ``max_tries`` in the present try.
        """
        return self.max_tries not in (None, max_tries)

    def with_task(self, started: StartedTask) -> Submission:
        """Return the record with the agent task that the start returned."""
        task_id, agent_id, submitted_at = started.agent_task_id, started.agent_id, started.started_at
        return replace(self, task_id=task_id, agent_id=agent_id, submitted_at=submitted_at)

    @classmethod
    def build_closed(cls, started: StartedTask, task: AgentTask, conn_id: str) -> Submission:
        """Return the closed record of an agent task, as its service last described it."""
        closed = cls(
            "",
            0,
            _BEFORE_ANY_CLEAR,
            conn_id=conn_id,
            service=task.service,
            is_closed=True,
            status=task.status.value,
        )
        return closed.with_task(started)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON; a closed one has only what tells which agent task it was."""
        if self.is_closed:
            return {name: getattr(self, name) for name in _CLOSED_FIELDS}
        return {**asdict(self), "questions": self.questions.to_json()}

    @classmethod
    def from_json(cls, stored: Any) -> Submission:
        """
        Return the stored record. Damaged fields get their defaults: only the agent task's id is vital.

        :raises AgentTaskError: if the record neither names an agent task nor says that a start was only
            intended. The error is final, because starting another agent task might do the work twice.
        """
        found = dict(_read_fields(stored)) if isinstance(stored, Mapping) else {}
        is_started = isinstance(stored, Mapping) and stored.get("task_id") is not None
        if not found.get("task_id" if is_started else "idempotency_key"):
            raise _build_refusal()
        if found.get("idempotency_key"):
            found["is_closed"] = False  # damage must not hide an agent task that may be running
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
                # Damaged questions can be asked again, but a second agent task must not be started.
                yield name, Questions.from_json(stored.get(name, ()))
            elif name in stored:
                yield name, msgspec.convert(value, kind)
        except (msgspec.ValidationError, RecursionError):
            continue


def _build_refusal() -> AgentTaskError:
    error = AgentTaskError(
        f"The key {RECORD_KEY!r} in Airflow's task state store is damaged and names no agent task, so an "
        "unknown agent task may be running for this Airflow task. Search the service for it, and stop it. "
        f"Then delete the key (over REST: DELETE …/taskInstances/…/state-store/{RECORD_KEY}), and clear the "
        "task."
    )
    error.is_final = True
    return error


def build_idempotency_key(owner: Iterable[object], request: Mapping[str, Any]) -> str:
    """
    Return the idempotency key of one start: equal only for the same owner and the same request.

    :param owner: The values that identify the Airflow task and the try that intends the start.
    :param request: The start fields. Their fingerprint is part of the key, so that a service never returns
        the task of another request.
    """
    parts = [*map(str, owner), json.dumps(request, sort_keys=True, default=str)]
    # As JSON, so that different lists of parts never give the same text.
    return f"airflow-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"
