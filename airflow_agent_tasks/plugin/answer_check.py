"""
Checks an answer to one of our forms before Airflow stores it, once Airflow has authorised its sender.

An answer that the worker would reject is refused at once, while the user can still correct it. With some
schedulers an answer is also delayed by a few seconds, see ``delay_early_answers``. Simultaneous answers to
one task share one database query, and a request whose client has disconnected is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from airflow_agent_tasks.airflow_compat.open_forms import OpenForm, TaskKey, read_open_form
from airflow_agent_tasks.lifecycle.auto_reply import find_fault
from airflow_agent_tasks.lifecycle.question_form import (
    MAX_REPLY,
    OPTIONS,
    names_other_question,
    read_response,
)
from airflow_agent_tasks.lifecycle.question_log import SEND
from airflow_agent_tasks.plugin.shared_tasks import SharedTasks

log = logging.getLogger(__name__)

OTHER_QUESTION = "This form shows an earlier question of the agent. Reload the page to answer the latest one."
#: The status that nginx uses for a request whose client has disconnected: nobody receives it.
CLIENT_CLOSED_REQUEST = 499

Delay = Callable[[TaskKey], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Answer:
    """
    An answer on its way to Airflow.

    :param key: The task that it answers.
    :param event: The body of the request.
    """

    key: TaskKey
    event: Mapping[str, Any]


def find_delay() -> Delay | None:
    """Return the function that delays an answer, or None if the scheduler does not need that."""
    from airflow_agent_tasks.airflow_compat.early_answer_delay import accepts_early_resumes

    if accepts_early_resumes():
        return None
    from airflow_agent_tasks.plugin.delay_early_answers import delay

    return delay


class AnswerCheck:
    """
    Refuses answers that their worker would reject, and delays those that come too early.

    :param delay: Returns once an answer to a task may proceed; None if every answer may proceed at once.
    """

    def __init__(self, delay: Delay | None) -> None:
        self._forms = SharedTasks(_read_form)
        self._delays = SharedTasks(delay) if delay else None

    async def __call__(self, request: Request) -> None:
        """
        Return once Airflow may accept the answer in a request.

        :raises HTTPException: if it is refused, or its client has disconnected.
        """
        if answer := await _read_answer(request):
            await _do_unless_gone(request, self._check(answer))

    async def _check(self, answer: Answer) -> None:
        try:
            form = await self._forms.wait_for(answer.key)
            if form is None:
                return
            check_answer(answer.event, form)
            if self._delays:
                await self._delays.wait_for(answer.key)
        except HTTPException:
            raise
        except Exception as error:
            log.warning("Could not read the task of an answer to check it: %s", type(error).__name__)


def check_answer(event: Mapping[str, Any], form: OpenForm) -> None:
    """
    Refuse an answer that its worker would reject.

    :raises HTTPException: with the reason and what to do; the Airflow UI shows only the status.
    """
    if form.question_id is not None and names_other_question(event, form.question_id):
        raise HTTPException(HTTPStatus.CONFLICT, OTHER_QUESTION)  # as Airflow 3.4 does
    response = read_response(event)
    if response and response.chosen_option == SEND and (fault := find_fault(response)):
        detail = f"The reply was not sent: {fault} Type 1 to {MAX_REPLY} characters and press {SEND}."
        raise HTTPException(HTTPStatus.BAD_REQUEST, detail)


async def _read_form(key: TaskKey) -> OpenForm | None:
    return await asyncio.to_thread(read_open_form, key)


async def _read_answer(request: Request) -> Answer | None:
    """Return the answer in a request, or None for one that Airflow itself refuses."""
    names = request.path_params
    try:
        event = await request.json()
        key = TaskKey(names["dag_id"], names["dag_run_id"], names["task_id"], int(names["map_index"]))
    except (ValueError, RecursionError):
        return None
    chosen = event.get("chosen_options") if isinstance(event, dict) else None
    is_one_of_ours = isinstance(chosen, list) and len(chosen) == 1 and chosen[0] in OPTIONS
    has_fields = is_one_of_ours and isinstance(event.get("params_input", {}), dict)
    return Answer(key, event) if has_fields else None


async def _do_unless_gone(request: Request, check: Coroutine[Any, Any, None]) -> None:
    """Run the check of a request, and end it when the client disconnects."""
    checking = asyncio.ensure_future(check)
    # Not is_disconnected(): behind a BaseHTTPMiddleware, and Airflow has one, it never returns True.
    leaving = asyncio.ensure_future(_has_gone(request))
    try:
        await asyncio.wait({checking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not checking.done() and leaving.result():
            raise HTTPException(CLIENT_CLOSED_REQUEST, "The client closed the request.")
        await checking
    finally:
        for task in (checking, leaving):
            task.cancel()
        # Airflow can receive the request's messages again only when nothing else waits for them.
        await asyncio.wait({checking, leaving})


async def _has_gone(request: Request) -> bool:
    """Return True once the client of a fully read request has disconnected, False if that is unknown."""
    with suppress(Exception):
        return bool((await request.receive())["type"] == "http.disconnect")
    return False
