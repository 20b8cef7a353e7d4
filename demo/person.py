"""The person of the demo: answers under Required Actions, over Airflow's REST API, what the agents ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from airflow_api import AirflowApi


class Person:
    """
    Somebody who knows what to reply.

    :param api: The API server with the forms.
    :param replies: The reply by a part of the question; what fits none of them is left unanswered.
    :param say: Where it is told what was answered.
    """

    def __init__(self, api: AirflowApi, replies: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._api = api
        self._replies = replies
        self._say = say

    def answer_open_questions(self) -> None:
        """Look under Required Actions once, and answer what is asked there."""
        for form in self._api.list_questions():
            for part, reply in self._replies.items():
                if part in form["subject"]:
                    self._api.answer(form, reply)
                    self._say(f"{form['task_instance']['dag_id']}: {form['subject']} Answered: {reply}")
                    break
