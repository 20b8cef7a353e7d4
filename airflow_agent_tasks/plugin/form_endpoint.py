"""
The endpoint in the API server with which a worker changes the form of its task: show, read or close it.

An order is carried out only while its task instance runs: otherwise a worker could change the forms of tasks
that ended long ago.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from airflow_agent_tasks.plugin.signed_orders import read_order, refuse


async def change_form(request: Request) -> JSONResponse:
    """Carry out an order: 200 with its outcome, 403 if it is not signed, 409 if its task no longer runs."""
    order = await read_order(request)
    if order is None:
        return refuse()
    # Imported here: where Airflow no longer fits it, the health endpoint beside this one must say so.
    from airflow_agent_tasks.airflow_compat.form_rows import carry_out

    outcome = await run_in_threadpool(carry_out, order)
    if outcome is None:
        return JSONResponse({"detail": "This task is no longer running."}, 409)
    return JSONResponse(outcome)
