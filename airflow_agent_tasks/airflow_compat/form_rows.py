"""A task's form under Required Actions as rows of Airflow's database; for the plugin in the API server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy.orm import Session

from airflow_agent_tasks.airflow_compat.form_row_refresh import show_question


def carry_out(order: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Show, read or close the form of a running task.

    :param order: ``do`` ("show", "read" or "close") and ``task_instance_id``; to read also ``form_id``, the
        id of the task instance that asked; to show also the form's fields, ``question_id`` and ``reopen``.
    :return: What became of it: ``response`` is the answer in the form of Airflow's resume event, or None.
        None instead of a dict if the task is no longer running.
    """
    with create_session() as session:
        # Locked in the same sequence as in Airflow's own answer route, so that neither waits for the other.
        ti = session.get(TaskInstance, UUID(order["task_instance_id"]), with_for_update={"of": TaskInstance})
        if ti is None or ti.state != TaskInstanceState.RUNNING:
            return None
        form = session.get(HITLDetail, ti.id, with_for_update={"of": HITLDetail})
        if order["do"] != "show":
            response = _read_response(form) or _read_response(
                _find_earlier(session, ti, order.get("form_id"))
            )
            if form and not response and order["do"] == "close":
                form.responded_at, form.chosen_options = datetime.now(timezone.utc), []
            return {"response": response}
        if form is None:
            form = HITLDetail(ti_id=ti.id)
            session.add(form)
        show_question(form, order)
        return {"shown": True}


def _find_earlier(session: Session, ti: TaskInstance, form_id: Any) -> HITLDetail | None:
    """Return the form of an earlier try of the same task; Airflow 3.3 hands it on to the next try."""
    try:
        earlier = session.get(TaskInstance, UUID(form_id))
    except (TypeError, ValueError, AttributeError):
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
