"""
Shinzo: tasks submitted to an agent that its owner has set up on the service.

Source: the service's documentation page "Task Management".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.services import start_fields as field
from airflow_agent_tasks.services.base import CallbackFields, Capability, Dialect
from airflow_agent_tasks.services.http import Request, quote_id


class ShinzoDialect(Dialect):
    """Requests and responses of ``/agent/…/task``."""

    service = "shinzo"
    title = "Shinzo"
    default_base_url = "https://api.app.shinzo.ai"
    capabilities = (
        Capability.MESSAGE
        | Capability.CANCEL
        | Capability.CALLBACK
        | Capability.PROGRESS
        | Capability.AGENT_CHOICE
    )
    alternatives: ClassVar[Mapping[Capability, str]] = {
        Capability.PAUSE: "Cancel the task instead, or send a message that asks the agent to wait.",
        Capability.RESUME: "Shinzo tasks are never paused; reply to one that awaits input with a message.",
        Capability.STREAM: "Submit the task and poll its status, which includes the progress.",
        Capability.IDEMPOTENT_START: "A submit without a response is not retried; check the service.",
        Capability.EXIT_CODE: "Use the status: completed or failed.",
    }
    actions: ClassVar[Mapping[Capability, tuple[str, str]]] = {
        Capability.MESSAGE: ("message", "send a message to"),
        Capability.CANCEL: ("cancel", "cancel"),
    }
    stop_capability = Capability.CANCEL
    instruction_field = "message"
    callback_fields = CallbackFields(url="webhook_url", mode=("callback_mode", "webhook"))
    start_fields = (
        field.text("message", required=True),
        field.positive_integer("priority", maximum=10),
        field.positive_number("timeout_override"),
        field.json_object("metadata"),
        field.one_of("callback_mode", "poll", "webhook"),
        field.web_address("webhook_url"),
    )
    states: ClassVar[Mapping[str, TaskState]] = {
        "queued": TaskState.QUEUED,
        "running": TaskState.RUNNING,
        "awaiting_input": TaskState.AWAITING_INPUT,
        "completed": TaskState.COMPLETED,
        "failed": TaskState.FAILED,
        "cancelled": TaskState.CANCELLED,
    }

    def check_start_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        checked = super().check_start_fields(fields)
        if field.RENDERED_LATER in (checked.get("callback_mode"), checked.get("webhook_url")):
            return checked
        wants_callback = checked.get("callback_mode") == "webhook"
        if wants_callback and "webhook_url" not in checked:
            raise AgentTaskArgumentError("webhook_url is required with callback_mode='webhook'.")
        if "webhook_url" in checked and not wants_callback:
            raise AgentTaskArgumentError(
                "webhook_url needs callback_mode='webhook'; without it Shinzo sends no webhook."
            )
        return checked

    def build_start(self, fields: Mapping[str, Any], *, agent_id: str | None = None) -> Request:
        body = self.check_start_fields(fields)
        return Request(
            "POST",
            f"/agent/request/{_quote_agent(agent_id)}",
            f"submit a task to agent {agent_id!r}",
            json=body,
            repeatable=False,
            has_effect=True,
        )

    def put_idempotency_key(self, fields: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        # Shinzo ignores it, but a user who searches for the task of a lost start can find it.
        metadata = fields.get("metadata")
        if metadata is not None and not isinstance(metadata, Mapping):
            return dict(fields)  # check_start_fields rejects it
        return {**fields, "metadata": {"idempotency_key": idempotency_key, **(metadata or {})}}

    def build_task_path(self, task_id: str, agent_id: str | None) -> str:
        return f"/agent/{_quote_agent(agent_id)}/task/{quote_id('task_id', task_id)}"

    def _key_hint(self, status: int) -> str:
        if status == 403:
            return "The account of this key has no agents enabled."
        return "Check the JWT or platform API key in the connection's password field."


def _quote_agent(agent_id: str | None) -> str:
    if agent_id is None:
        raise AgentTaskArgumentError(
            "agent_id is required on Shinzo: pass it to the call, or set agent_id in the connection."
        )
    return quote_id("agent_id", agent_id)
