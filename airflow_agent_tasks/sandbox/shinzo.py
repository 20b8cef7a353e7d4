"""
The Shinzo half of the sandbox.

Every agent whose id starts with ``agt_`` exists, except ``agt_unknown``; ``agt_unavailable`` returns 503. An
invalid body, and an action on a task that has ended, return 400.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import Field, field_validator, model_validator

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.sandbox.route_helpers import json_response, read_body, require_key, script_of
from airflow_agent_tasks.sandbox.store import TaskStore
from airflow_agent_tasks.sandbox.strict_json import Checked
from airflow_agent_tasks.sandbox.tasks import SimulatedTask
from airflow_agent_tasks.sandbox.webhook import WebhookSender

SERVICE = "shinzo"
WRONG_BODY = 400
UNKNOWN_AGENT = "agt_unknown"
UNAVAILABLE_AGENT = "agt_unavailable"


class SubmitBody(Checked):
    """The submission of a task; every field except the message may be missing or null."""

    message: str
    priority: Annotated[int, Field(ge=1, le=10)] | None = None
    timeout_override: Annotated[float, Field(gt=0)] | None = None
    metadata: dict[str, Any] | None = None
    callback_mode: Literal["poll", "webhook"] | None = None
    webhook_url: str | None = None

    @field_validator("message")
    @classmethod
    def _message_must_say_something(cls, message: str) -> str:
        if not message.strip():
            raise ValueError("must not be empty")
        return message

    @field_validator("webhook_url")
    @classmethod
    def _webhook_url_must_be_http(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ValueError(f"must be an http or https URL, not {url!r}")
        return url

    @model_validator(mode="after")
    def _webhook_needs_an_address(self) -> SubmitBody:
        if self.callback_mode == "webhook" and self.webhook_url is None:
            raise ValueError('webhook_url: required with callback_mode "webhook"')
        return self


class MessageBody(Checked):
    """A message to a task."""

    message: Annotated[str, Field(min_length=1)]


class ShinzoRoutes:
    """
    The calls of the Shinzo service.

    :param store: Stores the tasks.
    :param key: The JWT or platform API key.
    :param webhooks: Delivers the requested webhooks.
    """

    def __init__(self, store: TaskStore, key: str, webhooks: WebhookSender) -> None:
        self._store = store
        self._webhooks = webhooks
        check = require_key(key, extra_header="x-shinzo-api-key")
        self.router = APIRouter(prefix="/agent", dependencies=[Depends(check)])
        task_path = "/{agent_id}/task/{task_id}"
        self.router.add_api_route("/request/{agent_id}", self.submit, methods=["POST"], name="submit")
        self.router.add_api_route(task_path, self.status, methods=["GET"])
        self.router.add_api_route(f"{task_path}/message", self.send_message, methods=["POST"])
        self.router.add_api_route(f"{task_path}/cancel", self.cancel, methods=["POST"])

    async def submit(self, request: Request, agent_id: str) -> Response:
        """Accept a task."""
        if not agent_id.startswith("agt_") or agent_id == UNKNOWN_AGENT:
            raise HTTPException(
                404, f"There is no agent {agent_id!r}; the sandbox has every agt_… except {UNKNOWN_AGENT}."
            )
        if agent_id == UNAVAILABLE_AGENT:
            raise HTTPException(503, f"The agent {agent_id!r} is paused, stopped or in error.")
        body, raw = await read_body(request, SubmitBody, error_status=WRONG_BODY)
        now = self._store.now()
        limit = body.timeout_override
        task = SimulatedTask(
            service=SERVICE,
            script=script_of(body.message, self._store.scripts, error_status=WRONG_BODY),
            request=raw,
            created_at=now,
            agent_id=agent_id,
            deadline=None if limit is None else now + limit,
            status_at_deadline=TaskState.FAILED,
        )
        self._store.add(task)
        if body.callback_mode == "webhook" and body.webhook_url is not None:
            await self._webhooks.watch(task, body.webhook_url)
        return json_response(_accepted(task, str(request.base_url)), 202)

    async def status(self, agent_id: str, task_id: str) -> Response:
        """Return the task's status."""
        return json_response(_status(self._find(agent_id, task_id)))

    async def send_message(self, request: Request, agent_id: str, task_id: str) -> Response:
        """Send the task a message, which replies to its question if it has one."""
        body, _ = await read_body(request, MessageBody, error_status=WRONG_BODY)
        task = self._find_active(agent_id, task_id)
        task.add_message(body.message, self._store.now())
        self._store.announce(task)
        return json_response({"task_id": task.task_id, "status": task.status, "message_received": True})

    async def cancel(self, agent_id: str, task_id: str) -> Response:
        """Cancel the task."""
        task = self._find_active(agent_id, task_id)
        task.cancel(self._store.now())
        self._store.announce(task)
        return json_response(
            {"task_id": task.task_id, "status": task.status, "cancelled_at": _stamp(task.ended_at)}
        )

    def _find(self, agent_id: str, task_id: str) -> SimulatedTask:
        task = self._store.find(SERVICE, task_id, agent_id)
        if task is None:
            raise HTTPException(404, f"The agent {agent_id!r} has no task {task_id!r}.")
        return task

    def _find_active(self, agent_id: str, task_id: str) -> SimulatedTask:
        task = self._find(agent_id, task_id)
        if task.has_ended:
            raise HTTPException(400, f"The task {task_id!r} has ended as {task.status}.")
        return task


def _accepted(task: SimulatedTask, base_url: str) -> dict[str, Any]:
    poll_url = f"{base_url}agent/{quote(str(task.agent_id), safe='')}/task/{task.task_id}"
    return {
        "task_id": task.task_id,
        # The service's word for every accepted task, even one that starts at once.
        "status": TaskState.QUEUED.value,
        "created_at": _stamp(task.created_at),
        "estimated_start": _stamp(task.created_at + task.script.queued_seconds),
        "poll_url": poll_url,
        "cancel_url": f"{poll_url}/cancel",
    }


def _status(task: SimulatedTask) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "task_id": task.task_id,
        "status": task.status,
        "created_at": _stamp(task.created_at),
    }
    if task.started_at is not None:
        reply["started_at"] = _stamp(task.started_at)
    if task.has_ended:
        is_cancelled = task.status == TaskState.CANCELLED.value
        reply["cancelled_at" if is_cancelled else "completed_at"] = _stamp(task.ended_at)
        if task.ended_by_itself:
            reply["result"] = task.result
    elif task.started_at is not None:
        reply["progress"] = {
            "current_step": task.current_step,
            "steps_completed": task.steps_completed,
            "total_steps": task.total_steps,
        }
    if task.question is not None:
        reply["question"] = task.question
    return reply | task.report_usage()


def _stamp(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
