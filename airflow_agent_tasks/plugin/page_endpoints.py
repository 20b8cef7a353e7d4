"""
The endpoints behind the page "Agent tasks" in the Airflow UI.

Airflow's auth manager decides what a user may see and do, for each DAG. A request that changes something must
be JSON: a form on another site cannot send that with the user's cookie.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.page_access import Access, AccessDep
from airflow_agent_tasks.airflow_compat.submission_rows import (
    Criteria,
    SubmissionRow,
    count_submissions,
    list_submissions,
)
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.operations.actions import act, read_agent_task
from airflow_agent_tasks.operations.description import describe, describe_now
from airflow_agent_tasks.plugin.bounded_body import read_body
from airflow_agent_tasks.text import shorten

log = logging.getLogger(__name__)

#: Maximum size of an order in bytes, and seconds for it to arrive.
MAX_BODY, MAX_SECONDS = 128 * 1024, 10.0
#: The longest period that can be listed, in days, and the largest page.
MAX_DAYS, MAX_PAGE = 365, 200
_NO_STORE = {"cache-control": "no-store"}

app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
app.router.redirect_slashes = False


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The agent task that a request is about.

    :param agent_task_id: Its id as the user saw it: a later try may have started another one meanwhile.
    :param message: The text for the agent.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    agent_task_id: str
    message: str | None = None


@app.get("/agent-tasks")
def list_agent_tasks(
    access: AccessDep,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: int | None = None,
    state: Annotated[Sequence[str], Query(max_length=20)] = (),
    agent_state: Annotated[Sequence[str], Query(max_length=20)] = (),
    text: Annotated[str, Query(max_length=200)] = "",
    open: bool = False,
    days: Annotated[float, Query(gt=0, le=MAX_DAYS)] = 7,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> JSONResponse:
    """Return a page of the agent tasks of the DAGs that the user may see, and how many match."""
    if not access.may_read_tasks(dag_id):
        return _refuse()
    criteria = Criteria(
        since=datetime.now(timezone.utc) - timedelta(days=days),
        readable_dag_ids=access.list_readable_dags(),
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        states=state,
        agent_states=agent_state,
        text=text,
        is_open=open,
    )
    rows = list_submissions(criteria, limit=limit, offset=offset)
    shown = [_show(row, access, describe) for row in rows if access.may_read_tasks(row.scope.dag_id)]
    return JSONResponse({"agent_tasks": shown, "total": count_submissions(criteria)}, headers=_NO_STORE)


@app.post("/agent-task")
async def show_agent_task(request: Request, access: AccessDep) -> JSONResponse:
    """Return one agent task as its service describes it now."""
    return await _carry_out(request, access, _show_now)


@app.post("/agent-task/{action}")
async def act_on_agent_task(request: Request, access: AccessDep, action: str) -> JSONResponse:
    """Do something to an agent task, and return it and a sentence about what happened."""

    def carry_out(row: SubmissionRow, target: Target, access: Access) -> dict[str, Any]:
        outcome = act(row, action, user=access.user_name, message=target.message)
        return {"message": outcome.message, **_show(row, access, lambda row: describe_now(row, outcome.task))}

    return await _carry_out(request, access, carry_out, changes=True)


def _show_now(row: SubmissionRow, target: Target, access: Access) -> dict[str, Any]:
    task = read_agent_task(row)
    return _show(row, access, lambda row: describe_now(row, task))


def _show(
    row: SubmissionRow, access: Access, describe_row: Callable[[SubmissionRow], dict[str, Any]]
) -> dict[str, Any]:
    """Return a row as far as the user may see it."""
    dag_id = row.scope.dag_id
    if not access.may_read_xcoms(dag_id):
        row = replace(row, xcoms={})
    shown = describe_row(row)
    return shown if access.may_act(dag_id) else {**shown, "actions": []}


async def _carry_out(
    request: Request,
    access: Access,
    carry_out: Callable[[SubmissionRow, Target, Access], dict[str, Any]],
    *,
    changes: bool = False,
) -> JSONResponse:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _reject("The request must be JSON.", 415)
    try:
        body = await read_body(request, MAX_BODY, MAX_SECONDS)
        target = msgspec.json.decode(body or b"", type=Target)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return _reject(f"The request is malformed: {shorten(str(error))}", 400)
    return await run_in_threadpool(_answer, target, access, carry_out, changes)


def _answer(
    target: Target,
    access: Access,
    carry_out: Callable[[SubmissionRow, Target, Access], dict[str, Any]],
    changes: bool,
) -> JSONResponse:
    is_allowed = access.may_act if changes else access.may_read_xcoms
    if not (access.may_read_tasks(target.dag_id) and is_allowed(target.dag_id)):
        return _refuse()
    names = {name: getattr(target, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    rows = list_submissions(Criteria(since=datetime.now(timezone.utc) - timedelta(days=MAX_DAYS), **names))
    row = next((row for row in rows if row.record and row.record.task_id == target.agent_task_id), None)
    if row is None:
        return _reject("This Airflow task has no such agent task any more. Refresh the page.", 404)
    try:
        return JSONResponse(carry_out(row, target, access), headers=_NO_STORE)
    except AgentTaskError as error:
        return _reject(str(error), 409)


def _refuse() -> JSONResponse:
    return _reject("Airflow does not allow you this. Ask for access to the DAG.", 403)


def _reject(detail: str, status: int) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=_NO_STORE)
