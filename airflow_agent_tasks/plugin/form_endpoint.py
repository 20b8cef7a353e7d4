"""
What the API server does for a worker with the form of its task: put each question's text, read it, close it.

A worker's order is signed with ``[api] secret_key`` and holds for a minute. It is carried out only while its
task instance runs: whoever has the key could else change the forms of others after their time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from airflow.configuration import conf
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import timezone
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from airflow_agent_tasks.airflow_compat.signed_orders import is_signed
from airflow_agent_tasks.lifecycle.question_form import QUESTION_FIELD

#: Bytes of an order: the longest form has less than half of it.
MAX_ORDER = 128 * 1024


async def change_form(request: Request) -> JSONResponse:
    """Carry out an order: 200 and what became of it, 403 where it is not signed, 409 where it is too late."""
    order = _parse(await _receive(request))
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    # Without a key of its own this server could tell nobody from a worker.
    key = conf.get("api", "secret_key", fallback=None)
    if order is None or not key or not is_signed(key, order, token):
        return JSONResponse({"detail": "This order is not signed by a worker of this Airflow."}, 403)
    return await run_in_threadpool(_carry_out, order)


async def _receive(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ORDER:
            return b""
    return bytes(body)


def _parse(body: bytes) -> Mapping[str, Any] | None:
    try:
        order = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return order if isinstance(order, dict) else None


def _carry_out(order: Mapping[str, Any]) -> JSONResponse:
    with create_session() as session:
        # Locked in the order in which Airflow locks them when somebody answers.
        ti = session.get(TaskInstance, UUID(order["task_instance_id"]), with_for_update={"of": TaskInstance})
        if ti is None or ti.state != TaskInstanceState.RUNNING:
            return JSONResponse({"detail": "This task does not run any more."}, 409)
        form = session.get(HITLDetail, ti.id, with_for_update={"of": HITLDetail})
        if order["do"] != "show":
            response = _read(form)
            if form and not response and order["do"] == "close":
                form.responded_at, form.chosen_options = timezone.utcnow(), []
            return JSONResponse({"response": response})
        if form is None:
            form = HITLDetail(ti_id=ti.id)
            session.add(form)
        if order["reopen"] or _read_question_id(form) != order["question_id"]:
            # Else an answer that was given since this very question was shown stays.
            _show(form, order)
        return JSONResponse({"shown": True})


def _show(form: HITLDetail, order: Mapping[str, Any]) -> None:
    form.subject, form.body = order["subject"], order["body"]
    form.options, form.params = order["options"], order["params"]
    form.assignees = order["assigned_users"]
    form.defaults, form.multiple = None, False
    form.created_at = timezone.utcnow()
    form.responded_at = form.responded_by = form.chosen_options = None
    form.params_input = {}


def _read_question_id(form: HITLDetail) -> Any:
    param = (form.params or {}).get(QUESTION_FIELD)
    return param.get("value") if isinstance(param, dict) else None


def _read(form: HITLDetail | None) -> dict[str, Any] | None:
    if form is None or not form.response_received:
        return None
    response = form.as_resume_event_payload()
    return {**response, "responded_at": response["responded_at"].isoformat()}


app = Starlette(routes=[Route("/required-action", change_form, methods=["POST"])])
