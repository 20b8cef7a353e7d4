"""
Writes a question into the row of a form that may show an earlier question.

Only for Airflow 3.3; delete with Airflow 3.4, where opening a form again refreshes its text.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.airflow_compat.open_forms import read_question_id

if TYPE_CHECKING:
    from airflow.models.hitl import HITLDetail

    from airflow_agent_tasks.airflow_compat.form_orders import ShowForm


def show_question(form: HITLDetail, order: ShowForm) -> None:
    """
    Put a question's text into the form, and remove an answer to an earlier question.

    A form that already shows exactly this question keeps its text and, unless it is reopened, its answer.

    :param form: The row; a new one is filled.
    :param order: The question to show.
    """
    if not order.reopen and read_question_id(form.params) == order.question_id:
        return
    columns: Any = form  # Airflow declares wrong types for some of them.
    columns.subject, columns.body = order.subject, order.body
    columns.options, columns.params = order.options, order.params
    columns.assignees = order.assigned_users
    form.defaults, form.multiple = None, False
    form.created_at = datetime.now(timezone.utc)
    form.responded_at = form.responded_by = form.chosen_options = None
    form.params_input = {}
