"""``/_sandbox``: the sandbox's own API, for tests and demos. It needs no key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import TypeAdapter, ValidationError

from airflow_agent_tasks.sandbox.faults import FaultRule, FaultRules
from airflow_agent_tasks.sandbox.images import MEDIA_TYPE, draw_screenshot
from airflow_agent_tasks.sandbox.middleware import CONTROL_PATH
from airflow_agent_tasks.sandbox.page import render_task
from airflow_agent_tasks.sandbox.request_log import RequestLog
from airflow_agent_tasks.sandbox.route_helpers import json_response
from airflow_agent_tasks.sandbox.script import ScriptRule
from airflow_agent_tasks.sandbox.store import TaskStore
from airflow_agent_tasks.sandbox.strict_json import describe_mistakes, parse_json
from airflow_agent_tasks.sandbox.tasks import SimulatedTask
from airflow_agent_tasks.sandbox.webhook import WebhookSender

_RULES = TypeAdapter(list[FaultRule])


class ControlRoutes:
    """
    The routes of the sandbox's own API.

    :param store: The tasks.
    :param log: The requests.
    :param faults: The fault rules.
    :param webhooks: The webhook deliveries.
    """

    def __init__(
        self, store: TaskStore, log: RequestLog, faults: FaultRules, webhooks: WebhookSender
    ) -> None:
        self._store = store
        self._log = log
        self._faults = faults
        self._webhooks = webhooks
        self.router = APIRouter(prefix=CONTROL_PATH)
        self.router.add_api_route("", self.forget, methods=["DELETE"])
        self.router.add_api_route("/requests", self.requests, methods=["GET"])
        self.router.add_api_route("/tasks", self.tasks, methods=["GET"])
        self.router.add_api_route("/tasks/{task_id}", self.task, methods=["GET"])
        self.router.add_api_route("/screenshots/{task_id}/{number}.png", self.screenshot, methods=["GET"])
        self.router.add_api_route("/faults", self.add_faults, methods=["POST"])
        self.router.add_api_route("/scripts", self.add_script, methods=["POST"])

    async def requests(self) -> Response:
        """List the requests, the oldest first."""
        return json_response(self._log.to_json())

    async def tasks(self) -> Response:
        """List the tasks, the oldest first."""
        return json_response([_describe(task) for task in self._store])

    async def task(self, request: Request, task_id: str) -> Response:
        """Show one task: as a page for people, or as JSON to those who accept that."""
        description = _describe(self._find(task_id))
        if "application/json" in request.headers.get("accept", ""):
            return json_response(description)
        # Should something of an agent's ever get past the escaping, the browser still executes nothing.
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(render_task(description), headers=headers, media_type="text/html")

    async def screenshot(self, task_id: str, number: str) -> Response:
        """Return one of a task's screenshots."""
        task = self._find(task_id)
        count = task.script.screenshots
        if not number.isdecimal() or not 1 <= int(number) <= count:
            raise HTTPException(404, f"The task {task_id!r} has {count} screenshots, but not {number!r}.")
        return Response(draw_screenshot(int(number), task.script.screenshot_bytes), media_type=MEDIA_TYPE)

    async def add_faults(self, request: Request) -> Response:
        """Add fault rules and return them as parsed."""
        try:
            rules = _RULES.validate_python(parse_json(await request.body()), strict=True)
        except ValidationError as exc:
            keys = ", ".join(FaultRule.model_fields)
            raise HTTPException(422, f"{describe_mistakes(exc)}. The keys of a rule: {keys}") from None
        except ValueError as exc:
            raise HTTPException(422, f"The body is not JSON: {exc}") from None
        self._faults.add(rules)
        return json_response([rule.model_dump(exclude_none=True) for rule in rules])

    async def add_script(self, request: Request) -> Response:
        """Add a script for the tasks that match, and return it as parsed."""
        try:
            rule = ScriptRule.model_validate(parse_json(await request.body()))
        except ValidationError as exc:
            keys = ", ".join(sorted(ScriptRule.model_fields))
            raise HTTPException(422, f"{describe_mistakes(exc)}. The keys of a script: {keys}") from None
        except ValueError as exc:
            raise HTTPException(422, f"The body is not JSON: {exc}") from None
        self._store.scripts.add(rule)
        return json_response(rule.model_dump(exclude_unset=True))

    async def forget(self) -> Response:
        """Forget all tasks, requests, faults and scripts."""
        self._webhooks.close()
        self._store.forget()
        self._log.forget()
        self._faults.forget()
        return Response(status_code=204)

    def _find(self, task_id: str) -> SimulatedTask:
        task = self._store.get(task_id)
        if task is None:
            raise HTTPException(404, f"There is no task {task_id!r}.")
        return task


def _describe(task: SimulatedTask) -> dict[str, Any]:
    return {
        "service": task.service,
        "task_id": task.task_id,
        "agent_id": task.agent_id,
        "status": task.status,
        "exit_code": task.exit_code,
        "question": task.question,
        "steps_completed": task.steps_completed,
        "total_steps": task.total_steps,
        "usage": task.report_usage().get("usage"),
        "times_started": task.times_started,
        "times_reused": task.times_reused,
        "idempotency_key": task.idempotency_key,
        "request": task.request,
        "messages": task.messages,
        "webhook_deliveries": task.webhook_deliveries,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
    }
