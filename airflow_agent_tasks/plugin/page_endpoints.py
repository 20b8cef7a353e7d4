"""
The endpoints behind the page "Agent tasks" in the Airflow UI.

Airflow's auth manager decides what a user may see and do, for each DAG. A request that changes something must
be JSON: a form on another site cannot send that with the user's cookie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import anyio
import msgspec
from fastapi import FastAPI, Query, Request
from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.page_access import Access, AccessDep
from airflow_agent_tasks.airflow_compat.submission_rows import (
    Criteria,
    SubmissionRow,
    count_submissions,
    list_dag_ids,
    list_submissions,
)
from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskError
from airflow_agent_tasks.operations.actions import act, read_agent_task
from airflow_agent_tasks.operations.description import describe, describe_now
from airflow_agent_tasks.plugin.bounded_body import read_body
from airflow_agent_tasks.text import shorten

#: Maximum size of an order in bytes, and seconds for it to arrive.
MAX_BODY, MAX_SECONDS = 128 * 1024, 10.0
#: The longest period that can be listed, in days, and the largest page.
MAX_DAYS, MAX_PAGE = 365, 200
#: Number of requests to services at a time. The threads are not those that the rest of the API server has: a
#: service that does not respond must not block it.
THREADS = 8
_MAX_INTEGER = 2**31 - 1
_NO_STORE = {"cache-control": "no-store"}
#: The error for those who must not learn what the agent or its service says.
_UNEXPLAINED = "This could not be done. To see why, ask for access to the DAG's XComs."

_Id = Annotated[str | None, Query(max_length=250, pattern=r"^[^\x00]*$")]
_States = Annotated[Sequence[str], Query(max_length=20)]
_Text = Annotated[str, msgspec.Meta(max_length=250, pattern=r"^[^\x00]*$")]

_free_threads = anyio.Semaphore(THREADS)

app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
app.router.redirect_slashes = False


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The agent task that a request is about.

    :param agent_task_id: Its id as the user saw it: a later try may have started another one meanwhile.
    :param message: The text for the agent.
    """

    dag_id: _Text
    run_id: _Text
    task_id: _Text
    map_index: Annotated[int, msgspec.Meta(ge=-1, le=_MAX_INTEGER)] = -1
    agent_task_id: str
    message: str | None = None


@app.get("/agent-tasks")
def list_agent_tasks(
    access: AccessDep,
    dag_id: _Id = None,
    run_id: _Id = None,
    task_id: _Id = None,
    map_index: Annotated[int | None, Query(ge=-1, le=_MAX_INTEGER)] = None,
    state: _States = (),
    agent_state: _States = (),
    text: Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")] = "",
    active: bool = False,
    days: Annotated[float, Query(gt=0, le=MAX_DAYS)] = 7,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    offset: Annotated[int, Query(ge=0, le=_MAX_INTEGER)] = 0,
) -> JSONResponse:
    """Return a page of the agent tasks of the DAGs that the user may see, and how many match."""
    criteria = Criteria(
        since=datetime.now(timezone.utc) - timedelta(days=days),
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
    )
    dag_ids = {dag_id} if dag_id is not None else list_dag_ids(criteria)
    access.load(dag_ids)
    readable = {one for one in dag_ids if access.may_read_tasks(one)}
    if dag_id is not None and not readable:
        return _refuse()
    if agent_state or active:
        # Who may not see what an agent does must not learn it from a filter.
        readable = {one for one in readable if access.may_read_xcoms(one)}
    criteria = replace(
        criteria,
        readable_dag_ids=readable,
        states=state,
        agent_states=agent_state,
        text=text,
        is_active=active,
    )
    rows = [_show(row, access) for row in list_submissions(criteria, limit=limit, offset=offset)]
    return JSONResponse({"agent_tasks": rows, "total": count_submissions(criteria)}, headers=_NO_STORE)


@app.post("/agent-task")
async def show_agent_task(request: Request, access: AccessDep) -> JSONResponse:
    """Return one agent task as its service describes it now."""

    def show_now(row: SubmissionRow, target: Target) -> dict[str, Any]:
        return describe_now(row, read_agent_task(row))

    return await _carry_out(request, access, access.may_read_xcoms, show_now)


@app.post("/agent-task/{action}")
async def act_on_agent_task(request: Request, access: AccessDep, action: str) -> JSONResponse:
    """Do something to an agent task, and return a sentence about what happened."""

    def carry_out(row: SubmissionRow, target: Target) -> dict[str, Any]:
        may_read = access.may_read_xcoms(row.scope.dag_id)
        try:
            happened = act(row, action, user=access.user_name, message=target.message)
        except AgentTaskError as error:
            # What the user has typed is no secret.
            if may_read or isinstance(error, AgentTaskArgumentError):
                raise
            raise AgentTaskError(_UNEXPLAINED) from None
        return {"message": happened if may_read else "Done."}

    return await _carry_out(request, access, access.may_act, carry_out)


def _show(row: SubmissionRow, access: Access) -> dict[str, Any]:
    """Return a row as far as the user may see it."""
    dag_id = row.scope.dag_id
    may_read = access.may_read_xcoms(dag_id)
    # Without the XComs, neither a field nor the choice of buttons says what the agent does.
    shown = describe(row) if may_read else {**describe(replace(row, xcoms={})), "agent_state": ""}
    return {
        **shown,
        "actions": shown["actions"] if access.may_act(dag_id) else [],
        "has_details": bool(shown["agent_task_id"]) and may_read,
    }


async def _carry_out(
    request: Request,
    access: Access,
    is_allowed: Callable[[str], bool],
    carry_out: Callable[[SubmissionRow, Target], dict[str, Any]],
) -> JSONResponse:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _reject("The request must be JSON.", 415)
    try:
        body = await read_body(request, MAX_BODY, MAX_SECONDS)
        target = msgspec.json.decode(body or b"", type=Target)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return _reject(f"The request is malformed: {shorten(str(error))}", 400)

    def work() -> JSONResponse:
        if not (access.may_read_tasks(target.dag_id) and is_allowed(target.dag_id)):
            return _refuse()
        return _work_on(target, carry_out)

    try:
        _free_threads.acquire_nowait()
    except anyio.WouldBlock:
        return _reject("Too many requests to the services are waiting. Try again in a moment.", 503)
    try:
        # Never waits: the semaphore has let through no more than that.
        return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))
    finally:
        _free_threads.release()


def _work_on(target: Target, carry_out: Callable[[SubmissionRow, Target], dict[str, Any]]) -> JSONResponse:
    names = {name: getattr(target, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    rows = list_submissions(Criteria(since=datetime.now(timezone.utc) - timedelta(days=MAX_DAYS), **names))
    row = next((row for row in rows if row.record and row.record.task_id == target.agent_task_id), None)
    if row is None:
        return _reject("This Airflow task has no such agent task any more. Refresh the page.", 404)
    try:
        return JSONResponse(carry_out(row, target), headers=_NO_STORE)
    except AgentTaskError as error:
        return _reject(str(error), 409)


def _refuse() -> JSONResponse:
    return _reject("Airflow does not allow you this. Ask for access to the DAG's tasks and XComs.", 403)


def _reject(detail: str, status: int) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=_NO_STORE)
