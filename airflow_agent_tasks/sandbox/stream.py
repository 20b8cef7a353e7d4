"""The server-sent events of a Lightcone task, and the faults of their stream."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from starlette.types import Receive

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.sandbox.images import MEDIA_TYPE, draw_screenshot
from airflow_agent_tasks.sandbox.middleware import CONTROL_PATH, wait_for_disconnect
from airflow_agent_tasks.sandbox.script_parts import encode_base64, split_into_deltas
from airflow_agent_tasks.sandbox.store import TaskStore
from airflow_agent_tasks.sandbox.tasks import SimulatedTask

PROGRESS, ERROR, COMPLETION = "progress_update", "error", "completion"
_TYPES_OF_CONCISE_STREAM = {PROGRESS, ERROR, COMPLETION}


class EventStream:
    """
    The events of one task from its current step to its end.

    In each step: its progress, then what the agent does in it, which is tool calls, deltas and screenshots.

    :param task: The task.
    :param store: Stores the tasks.
    :param base_url: The sandbox's base URL with a slash at its end, for the addresses of screenshots.
    :param first_step: The number of completed steps from which the stream starts; default 0.
    """

    def __init__(self, task: SimulatedTask, store: TaskStore, base_url: str, first_step: int = 0) -> None:
        self._task = task
        self._store = store
        self._base_url = base_url
        self._first_step = first_step
        self._is_concise = task.request.get("stream_mode") == "concise"
        self._has_deltas = task.request.get("stream_deltas") is True and not self._is_concise

    async def send(self, receive: Receive, cut: Callable[[], None]) -> AsyncIterator[str]:
        """
        Yield the events as they appear on the wire, with the script's stream fault.

        :param receive: Receives what the client sends, to wait until it leaves.
        :param cut: Cuts the connection to the client, after sending what was yielded.
        """
        fault = self._task.script.stream
        limit = math.inf if fault is None else fault.limit
        events = self._list_events()
        sent = 0
        while sent < limit:
            event = await anext(events, None)
            if event is None:
                if fault is None or not fault.cut_before_completion:
                    return
                break
            # Only data, never a comment or "[DONE]": the official SDK breaks on anything else.
            frame = f"data: {json.dumps(event)}\n\n"
            sent += 1
            yield frame if sent <= limit else frame[: len(frame) // 2]
            # Sending rarely waits: without this, a burst of events would hold up all other requests, even
            # after the client has left.
            await asyncio.sleep(0)
        if fault is not None and fault.stall_after is None:
            cut()
        # Returning would end the stream in order.
        await wait_for_disconnect(receive)

    async def _list_events(self) -> AsyncIterator[dict[str, Any]]:
        task, begun, announced = self._task, self._first_step, -1
        last_sent: dict[str, Any] | None = None
        async for _ in self._store.follow(task):
            # While this yields, the task goes on: these lines note its state as of now.
            completed, is_running = task.steps_completed, task.status == TaskState.RUNNING.value
            current = None if task.has_ended else _describe_now(task)
            # A busy machine may be late. Missed steps are sent anyway, so that a script always yields the
            # same events.
            for step in range(begun, completed):
                if step != announced:
                    yield _describe_step(task, step)
                for event in self._list_work(step):
                    yield event
            begun = max(begun, completed)
            if current is not None and current != last_sent:
                yield current
                announced = completed
            last_sent = current
            if is_running and begun == completed:
                begun += 1
                for event in self._list_work(completed):
                    yield event
        for event in self._list_end():
            yield event

    def _list_work(self, step: int) -> Iterator[dict[str, Any]]:
        task, script = self._task, self._task.script
        if self._is_concise:
            return
        for call in script.tool_calls[task.share_of_step(step, len(script.tool_calls))]:
            yield {**self._begin_event("tool_call"), "step": step + 1, **call.model_dump()}
        if self._has_deltas and script.deltas is not None:
            for delta in split_into_deltas(script.deltas[task.share_of_step(step, len(script.deltas))]):
                yield {**self._begin_event(PROGRESS), "delta": delta}
        for index in range(script.screenshots)[task.share_of_step(step, script.screenshots)]:
            screenshot = {**self._show(index + 1), "media_type": MEDIA_TYPE, "step": step + 1}
            yield {**self._begin_event("screenshots"), "screenshots": [screenshot]}

    def _list_end(self) -> Iterator[dict[str, Any]]:
        task, fault = self._task, self._task.script.stream
        for scripted in task.script.events:
            if not self._is_concise or scripted.type in _TYPES_OF_CONCISE_STREAM:
                yield scripted.model_dump()
        if task.exit_code != 0 or task.status != TaskState.COMPLETED.value:
            message = f"The task ended as {task.status}, exit code {task.exit_code}."
            yield {**self._begin_event(ERROR), "message": message}
        if fault is None or not (fault.omit_completion or fault.cut_before_completion):
            completion = {"status": task.status, "exit_code": task.exit_code, "result": task.result}
            yield {**self._begin_event(COMPLETION), **completion, **task.report_usage()}

    def _begin_event(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "task_id": self._task.task_id}

    def _show(self, number: int) -> dict[str, str]:
        if self._task.request.get("screenshot_mode") == "url":
            path = f"{CONTROL_PATH}/screenshots/{self._task.task_id}/{number}.png"
            return {"url": self._base_url.rstrip("/") + path}
        return {"base64": encode_base64(draw_screenshot(number, self._task.script.screenshot_bytes))}


def _describe_step(task: SimulatedTask, steps_completed: int) -> dict[str, Any]:
    return {
        "type": PROGRESS,
        "task_id": task.task_id,
        "status": TaskState.RUNNING.value,
        "current_step": task.title_of_step(steps_completed),
        "steps_completed": steps_completed,
        "total_steps": task.total_steps,
        **task.report_usage(steps_completed),
    }


def _describe_now(task: SimulatedTask) -> dict[str, Any]:
    progress = _describe_step(task, task.steps_completed) | {"status": task.status}
    return progress if task.question is None else {**progress, "question": task.question}
