"""The orders that a worker may send to the API server about the form of its task. Data only."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from airflow_agent_tasks.airflow_compat.required_action import HITLUser

#: Text that every database stores: PostgreSQL accepts neither NUL nor a lone surrogate.
Text = Annotated[str, Meta(pattern=r"\A[^\x00\ud800-\udfff]*\Z")]


class _Order(Struct, tag_field="do", frozen=True):
    """
    An order about one form.

    :param task_instance_id: The id of the task instance whose worker sends the order about its own form.
    """

    task_instance_id: UUID


class ShowForm(_Order, tag="show", frozen=True):
    """
    Open the form with a question, or show the question in the open form.

    :param question_id: The question's id, unique among all questions.
    :param subject: The form's first line.
    :param body: Its text, as Markdown.
    :param options: The options to choose from.
    :param params: Its fields.
    :param assigned_users: The users who may answer; empty for everyone with permission in Airflow.
    :param reopen: True to also remove an existing answer to this question.
    """

    question_id: Text
    subject: Text
    body: Text
    options: Annotated[list[Text], Meta(min_length=1)]
    params: dict[Text, dict[str, Any]]
    assigned_users: list[HITLUser]
    reopen: bool


class ReadForm(_Order, tag="read", frozen=True):
    """
    Read the answer.

    :param form_id: The id of the task instance that asked; an invalid id counts as none.
    """

    form_id: str | None = None


class CloseForm(_Order, tag="close", frozen=True):
    """Close the form, unless it was answered."""


FormOrder = ShowForm | ReadForm | CloseForm
