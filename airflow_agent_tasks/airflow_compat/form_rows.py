"""A task's form under Required Actions as rows of Airflow's database; for the plugin in the API server."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy.orm import Session

from airflow_agent_tasks.airflow_compat.form_orders import CloseForm, FormOrder, ReadForm, ShowForm
from airflow_agent_tasks.airflow_compat.form_row_refresh import show_question


def carry_out(order: FormOrder) -> dict[str, Any] | None:
    """
    Show, read or close the form of a running task.

    :param order: The order.
    :return: The outcome: ``response`` is the answer, in the format of Airflow's resume event, or None. None
        instead of a dict if the task is no longer running.
    """
    with create_session() as session:
        # Locked in the same order as in Airflow's own answer route, so that the two cannot deadlock.
        ti = session.get(TaskInstance, order.task_instance_id, with_for_update={"of": TaskInstance})
        if ti is None or ti.state != TaskInstanceState.RUNNING:
            return None
        form = session.get(HITLDetail, ti.id, with_for_update={"of": HITLDetail})
        if isinstance(order, ShowForm):
            if form is None:
                form = HITLDetail(ti_id=ti.id)
                session.add(form)
            show_question(form, order)
            return {"shown": True}
        form_id = order.form_id if isinstance(order, ReadForm) else None
        response = _read_response(form) or _read_response(_find_earlier(session, ti, form_id))
        if form and not response and isinstance(order, CloseForm):
            form.responded_at, form.chosen_options = datetime.now(timezone.utc), []
        return {"response": response}


def _find_earlier(session: Session, ti: TaskInstance, form_id: str | None) -> HITLDetail | None:
    """Return the form of an earlier try of the same task; Airflow 3.3 passes it on to the next try."""
    try:
        earlier = session.get(TaskInstance, UUID(form_id)) if form_id else None
    except ValueError:
        return None
    names = ("dag_id", "run_id", "task_id", "map_index")
    if earlier is None or any(getattr(earlier, name) != getattr(ti, name) for name in names):
        return None
    return session.get(HITLDetail, earlier.id)


def _read_response(form: HITLDetail | None) -> dict[str, Any] | None:
    if form is None or not form.response_received:
        return None
    response = form.as_resume_event_payload()
    return {**response, "responded_at": response["responded_at"].isoformat()}
