"""Finds the form that an answer is for, and its task; for the check of answers in the API server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_agent_tasks.lifecycle.question_form import OPTIONS, QUESTION_FIELD


class TaskKey(NamedTuple):
    """The values that identify an Airflow task in the path of a request."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    def build_filters(self) -> list[Any]:
        """Return the conditions for its row."""
        return [getattr(TaskInstance, name) == value for name, value in self._asdict().items()]


@dataclass(frozen=True)
class OpenForm:
    """
    A form of this package that nobody has answered.

    :param question_id: The id of the question that it shows; None if the form does not have the id.
    """

    question_id: str | None


def read_open_form(key: TaskKey) -> OpenForm | None:
    """Return the open form of a task; None if it has no form of this package that awaits an answer."""
    query = (
        select(HITLDetail.options, HITLDetail.params, HITLDetail.responded_at)
        .join(TaskInstance, HITLDetail.ti_id == TaskInstance.id)
        .filter(*key.build_filters())
    )
    with create_session() as session:
        row = session.execute(query).first()
    if row is None or tuple(row.options) != OPTIONS or row.responded_at is not None:
        return None
    return OpenForm(read_question_id(row.params))


def read_question_id(params: Any) -> str | None:
    """Return the question id in a form's fields, or None."""
    param = params.get(QUESTION_FIELD) if isinstance(params, Mapping) else None
    return param.get("value") if isinstance(param, Mapping) else None
