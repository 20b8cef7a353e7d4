"""
Lightcone by Tzafon: tasks that an agent carries out in a browser or on a desktop.

Source: the service's documentation page "Agent tasks", and its official SDK ``tzafon``, which has more start
fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.services import start_fields as field
from airflow_agent_tasks.services.base import Capability, Dialect
from airflow_agent_tasks.services.http import Request, quote_id


class LightconeDialect(Dialect):
    """Requests and responses of ``/agent/tasks``."""

    service = "lightcone"
    title = "Lightcone"
    default_base_url = "https://api.tzafon.ai"
    capabilities = (
        Capability.STREAM
        | Capability.MESSAGE
        | Capability.PAUSE
        | Capability.RESUME
        | Capability.IDEMPOTENT_START
        | Capability.EXIT_CODE
    )
    alternatives: ClassVar[Mapping[Capability, str]] = {
        Capability.CANCEL: (
            "Pause the task instead, and limit it from the start with max_steps and max_duration_seconds."
        ),
        Capability.CALLBACK: "Poll the task's status instead.",
        Capability.PROGRESS: "Start the task with stream_task and read its progress_update events.",
        Capability.AGENT_CHOICE: "Leave agent_id out; kind and model determine the agent.",
    }
    actions: ClassVar[Mapping[Capability, tuple[str, str]]] = {
        Capability.MESSAGE: ("messages", "send a message to"),
        Capability.PAUSE: ("pause", "pause"),
        Capability.RESUME: ("resume", "resume"),
    }
    stop_capability = Capability.PAUSE
    instruction_field = "instruction"
    start_fields = (
        field.text("instruction", required=True),
        field.one_of("kind", "desktop", "browser"),
        field.text("agent_type"),
        field.text("model"),
        field.temperature("temperature"),
        field.positive_integer("max_steps"),
        field.text("environment_id"),
        field.boolean("persistent"),
        field.one_of("screenshot_mode", "url", "base64"),
        field.positive_integer("viewport_width"),
        field.positive_integer("viewport_height"),
        field.text("idempotency_key"),
        field.positive_integer("max_duration_seconds"),
        field.labels("metadata"),
        field.web_address("start_url"),
        field.text("system_prompt"),
        field.turns("context"),
        field.text("computer_id"),
        field.one_of("on_missing_computer", "fail", "restore", "create_new"),
        field.boolean("keep_alive"),
        field.boolean("terminate_on_completion"),
        field.boolean("save_session"),
        field.one_of("harness_version", "v1", "v2"),
        field.one_of("stream_mode", "verbose", "concise"),
        field.boolean("stream_deltas"),
        field.text("thread_id"),
        field.text("agent_icon"),
    )
    # The service documents "running" and "completed" as examples of a free string; the others are common in
    # such services. An exit code overrides them all.
    states: ClassVar[Mapping[str, TaskState]] = {
        "queued": TaskState.QUEUED,
        "pending": TaskState.QUEUED,
        "starting": TaskState.QUEUED,
        "running": TaskState.RUNNING,
        "in_progress": TaskState.RUNNING,
        "paused": TaskState.PAUSED,
        "awaiting_input": TaskState.AWAITING_INPUT,
        "completed": TaskState.COMPLETED,
        "succeeded": TaskState.COMPLETED,
        "failed": TaskState.FAILED,
        "error": TaskState.FAILED,
        "cancelled": TaskState.CANCELLED,
        "canceled": TaskState.CANCELLED,
    }

    def build_start(self, fields: Mapping[str, Any], *, agent_id: str | None = None) -> Request:
        return self._build_start("/agent/tasks", fields, accept="application/json")

    def build_stream(self, fields: Mapping[str, Any], *, agent_id: str | None = None) -> Request:
        return self._build_start("/agent/tasks/stream", fields, accept="text/event-stream")

    def put_idempotency_key(self, fields: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        return {**fields, "idempotency_key": idempotency_key}

    def build_task_path(self, task_id: str, agent_id: str | None) -> str:
        return f"/agent/tasks/{quote_id('task_id', task_id)}"

    def _build_start(self, path: str, fields: Mapping[str, Any], *, accept: str) -> Request:
        body = self.check_start_fields(fields)
        return Request(
            "POST",
            path,
            "start an agent task",
            json=body,
            repeatable="idempotency_key" in body and path == "/agent/tasks",
            has_effect=True,
            accept=accept,
        )

    def _key_hint(self, status: int) -> str:
        return (
            "Check the key in the connection's password field (it starts with sk_). It was sent only once: "
            "Lightcone blocks an address after 10 failed authentications in 10 minutes."
        )
