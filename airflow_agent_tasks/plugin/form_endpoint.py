"""
The endpoint in the API server with which a worker changes the form of its task: show, read or close it.

An order is carried out only while its task instance runs: otherwise a worker could change the forms of tasks
that ended long ago.
"""

from __future__ import annotations

from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.form_orders import FormOrder
from airflow_agent_tasks.plugin.signed_orders import take_orders


def _carry_out(order: FormOrder) -> JSONResponse:
    """Carry out an order: 200 with its outcome, 409 if its task no longer runs."""
    # Imported here: where Airflow no longer fits it, the health endpoint beside this one must say so.
    from airflow_agent_tasks.airflow_compat.form_rows import carry_out

    outcome = carry_out(order)
    if outcome is None:
        return JSONResponse({"detail": "This task is no longer running."}, 409)
    return JSONResponse(outcome)


change_form = take_orders(FormOrder, _carry_out)
