"""
The endpoint in the API server through which a worker shows, reads or closes the form of its task.

An order is carried out only while its task instance runs; otherwise a worker could change the forms of tasks
that ended long ago.
"""

from __future__ import annotations

from starlette.responses import JSONResponse

from airflow_agent_tasks.airflow_compat.form_orders import FormOrder
from airflow_agent_tasks.plugin.signed_orders import take_orders


def _carry_out(order: FormOrder) -> JSONResponse:
    """Carry out an order: 200 with its outcome, 409 if its task no longer runs."""
    # Imported here: if it no longer fits Airflow, the health endpoint must still be able to report that.
    from airflow_agent_tasks.airflow_compat.form_rows import carry_out

    outcome = carry_out(order)
    if outcome is None:
        return JSONResponse({"detail": "This task is no longer running."}, 409)
    return JSONResponse(outcome)


change_form = take_orders(FormOrder, _carry_out)
