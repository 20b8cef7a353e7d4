"""Answers the agents' questions in the demo over Airflow's REST API, as a reviewer does in the UI."""

from __future__ import annotations

from collections.abc import Mapping

from lab.cluster.airflow_api import AirflowApi
from lab.command_line import log_progress


class Reviewer:
    """
    A reviewer who knows what to reply.

    :param api: The API server with the forms.
    :param replies: Each reply by a part of its question; other questions stay unanswered.
    """

    def __init__(self, api: AirflowApi, replies: Mapping[str, str]) -> None:
        self._api = api
        self._replies = replies

    def answer_open_questions(self) -> None:
        """Answer the questions that are open now."""
        for form in self._api.list_questions():
            for part, reply in self._replies.items():
                if part in form["subject"]:
                    self._api.answer(form, reply)
                    log_progress(f"{form['task_instance']['dag_id']}: {form['subject']} Answered: {reply}")
                    break
