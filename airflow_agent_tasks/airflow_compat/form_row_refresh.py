"""
Only for Airflow 3.3; delete with Airflow 3.4, where opening a form again refreshes its text.

Writes a question into the row of a form that may hold an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.lifecycle.question_form import QUESTION_FIELD

if TYPE_CHECKING:
    from airflow.models.hitl import HITLDetail


def show_question(form: HITLDetail, order: Mapping[str, Any]) -> None:
    """
    Put a question's text into the form, and remove an answer to an earlier question.

    A form that shows this very question already keeps its text and its answer, unless it is to be reopened.

    :param form: The row; a new one is filled.
    :param order: The form's fields, ``question_id`` and ``reopen``.
    """
    if not order["reopen"] and _read_question_id(form) == order["question_id"]:
        return
    form.subject, form.body = order["subject"], order["body"]
    form.options, form.params = order["options"], order["params"]
    form.assignees = order["assigned_users"]
    form.defaults, form.multiple = None, False
    form.created_at = datetime.now(timezone.utc)
    form.responded_at = form.responded_by = form.chosen_options = None
    form.params_input = {}


def _read_question_id(form: HITLDetail) -> Any:
    param = (form.params or {}).get(QUESTION_FIELD)
    return param.get("value") if isinstance(param, dict) else None
