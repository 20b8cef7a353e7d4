"""
The Lightcone half of the sandbox: the calls under ``/agent/tasks``.

An invalid body returns 422, an unknown task 404, a task that has ended 409.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, field_validator

from airflow_agent_tasks.sandbox.middleware import CutConnection
from airflow_agent_tasks.sandbox.route_helpers import (
    DO_NOT_RETRY,
    json_response,
    read_body,
    require_key,
    script_of,
)
from airflow_agent_tasks.sandbox.store import TaskStore
from airflow_agent_tasks.sandbox.stream import EventStream
from airflow_agent_tasks.sandbox.strict_json import Checked
from airflow_agent_tasks.sandbox.tasks import SimulatedTask

SERVICE = "lightcone"
WRONG_BODY = 422

_Count = Annotated[int, Field(ge=1)]


class ContextTurn(Checked):
    """One earlier turn of the conversation."""

    role: Literal["user", "assistant"]
    content: str


class StartBody(Checked):
    """The start of a task; every field except the instruction may be missing or null."""

    instruction: str
    kind: Literal["desktop", "browser"] | None = None
    agent_type: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_steps: _Count | None = None
    environment_id: str | None = None
    persistent: bool | None = None
    screenshot_mode: Literal["url", "base64"] | None = None
    viewport_width: _Count | None = None
    viewport_height: _Count | None = None
    idempotency_key: str | None = None
    max_duration_seconds: _Count | None = None
    metadata: dict[str, str] | None = None
    start_url: str | None = None
    system_prompt: str | None = None
    context: list[ContextTurn] | None = None
    computer_id: str | None = None
    on_missing_computer: Literal["fail", "restore", "create_new"] | None = None
    keep_alive: bool | None = None
    terminate_on_completion: bool | None = None
    save_session: bool | None = None
    harness_version: Literal["v1", "v2"] | None = None
    stream_mode: Literal["verbose", "concise"] | None = None
    stream_deltas: bool | None = None
    thread_id: str | None = None
    agent_icon: str | None = None

    @field_validator("instruction")
    @classmethod
    def _instruction_must_say_something(cls, instruction: str) -> str:
        if not instruction.strip():
            raise ValueError("must not be empty")
        return instruction


class MessageBody(Checked):
    """A message to a task."""

    message: Annotated[str, Field(min_length=1)]


class LightconeRoutes:
    """
    The calls of the Lightcone service.

    :param store: Stores the tasks.
    :param key: The API key.
    :param cut: Cuts the connection to a client, for scripts with ``stream``.
    """

    def __init__(self, store: TaskStore, key: str, cut: CutConnection) -> None:
        self._store = store
        self._cut = cut
        self.router = APIRouter(prefix="/agent/tasks", dependencies=[Depends(require_key(key))])
        self.router.add_api_route("", self.start, methods=["POST"])
        self.router.add_api_route("/stream", self.start_stream, methods=["POST"])
        self.router.add_api_route("/{task_id}", self.status, methods=["GET"])
        self.router.add_api_route("/{task_id}/messages", self.send_message, methods=["POST"])
        self.router.add_api_route("/{task_id}/pause", self.pause, methods=["POST"])
        self.router.add_api_route("/{task_id}/resume", self.resume, methods=["POST"])

    async def start(self, request: Request) -> Response:
        """Start a task, or return the one with the same idempotency key."""
        task, is_reused = await self._begin(request)
        reply: dict[str, Any] = {"task_id": task.task_id, "status": task.status}
        if task.idempotency_key is not None:
            reply |= {"idempotency_key": task.idempotency_key, "reused": is_reused}
        return json_response(reply)

    async def start_stream(self, request: Request) -> Response:
        """Start a task, or find the one with the same idempotency key, and stream its events from now on."""
        task, is_reused = await self._begin(request)
        first_step = task.steps_completed if is_reused else 0
        stream = EventStream(task, self._store, str(request.base_url), first_step)
        frames = stream.send(request.receive, lambda: self._cut(request.scope["client"], True))
        headers = {"cache-control": "no-cache"}
        return StreamingResponse(frames, media_type="text/event-stream", headers=headers)

    async def status(self, task_id: str) -> Response:
        """Return the task's status."""
        task = self._find(task_id)
        reply: dict[str, Any] = {"task_id": task.task_id, "status": task.status}
        if task.has_ended:
            reply["exit_code"] = task.exit_code
        if task.question is not None:
            reply["question"] = task.question
        return json_response(reply | task.report_usage())

    async def send_message(self, request: Request, task_id: str) -> Response:
        """Send the task a message, which replies to its question if it has one."""
        body, _ = await read_body(request, MessageBody, error_status=WRONG_BODY)
        task = self._find_active(task_id)
        task.add_message(body.message, self._store.now())
        return self._acted_on(task)

    async def pause(self, task_id: str) -> Response:
        """Pause the task. Ignores the body: the official SDK sends an empty one as JSON."""
        task = self._find_active(task_id)
        task.pause(self._store.now())
        return self._acted_on(task)

    async def resume(self, task_id: str) -> Response:
        """Resume a paused task."""
        task = self._find_active(task_id)
        task.resume(self._store.now())
        return self._acted_on(task)

    async def _begin(self, request: Request) -> tuple[SimulatedTask, bool]:
        body, raw = await read_body(request, StartBody, error_status=WRONG_BODY)
        if body.idempotency_key is not None:
            known = self._store.find_by_key(body.idempotency_key)
            if known is not None:
                known.times_reused += 1
                return known, True
        now = self._store.now()
        limit = body.max_duration_seconds
        task = SimulatedTask(
            service=SERVICE,
            script=script_of(body.instruction, self._store.scripts, error_status=WRONG_BODY),
            request=raw,
            created_at=now,
            idempotency_key=body.idempotency_key,
            max_steps=body.max_steps,
            deadline=None if limit is None else now + limit,
        )
        self._store.add(task)
        return task, False

    def _find(self, task_id: str) -> SimulatedTask:
        task = self._store.find(SERVICE, task_id)
        if task is None:
            raise HTTPException(404, f"There is no task {task_id!r}.")
        return task

    def _find_active(self, task_id: str) -> SimulatedTask:
        task = self._find(task_id)
        if task.has_ended:
            raise HTTPException(409, f"The task {task_id!r} has ended as {task.status}.", DO_NOT_RETRY)
        return task

    def _acted_on(self, task: SimulatedTask) -> Response:
        self._store.announce(task)
        return json_response({"status": task.status})
