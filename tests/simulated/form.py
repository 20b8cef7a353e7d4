"""The form of a simulated task instance, and the users who answer it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.question_form import Asking
from tests.simulated.script import Script

#: Seconds until someone answers.
ANSWERED_AFTER = 40.0


@dataclass
class Form:
    """A form of the task instance."""

    asking: Asking
    names_question: bool
    shown_at: float
    response: dict[str, Any] | None = None


class FormDesk:
    """
    Shows the form, and has it answered.

    :param script: What happens in the life.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.form: Form | None = None
        #: Those of earlier tries by the ids of these.
        self.earlier: dict[str, Form] = {}
        #: What users were asked: the agent task and the question, as often as one answered.
        self.answered: list[tuple[str, str]] = []

    def fork(self) -> FormDesk:
        """Return a desk of its own that is as this one is now."""
        other = FormDesk(self.script)
        other.form = self.form and replace(self.form)
        other.earlier = {**self.earlier}
        other.answered = [*self.answered]
        return other

    def end_try(self, form_id: str) -> None:
        """Do to the form what Airflow does when a next try begins."""
        if self.form and self.script.has_form_per_try:
            self.earlier[form_id], self.form = self.form, None

    def perform(self, command: cmd.Command[Any], now: float) -> Any:
        """Perform a command that concerns the form."""
        form = self.form
        match command:
            case cmd.ShowForm(asking) if self.script.has_form_per_try:  # Airflow's own way: no plugin needed
                self.form = Form(asking, names_question=True, shown_at=now)
                return True
            case cmd.ShowForm(asking, reopen) if self.script.has_plugin:
                is_shown = form and form.names_question and form.asking.question_id == asking.question_id
                if reopen or not is_shown:
                    self.form = Form(asking, names_question=True, shown_at=now)
                return True
            case cmd.ShowForm():
                return False
            case cmd.MakeForm(asking):
                # Airflow's own way removes an answer, and keeps the text: who answers looks into the log.
                self.form = Form(asking, names_question=False, shown_at=now)
            case cmd.ReadForm(form_id) if self.script.has_plugin:
                earlier = self.earlier.get(form_id)
                return (form and form.response) or (earlier and earlier.response)
            case cmd.CloseForm() if form and self.script.has_plugin:
                if form.response and form.response["chosen_options"]:
                    return form.response
                form.response = {"chosen_options": []}
        return None

    def answer_within(self, now: float, seconds: float) -> float | None:
        """Have the open form answered, and return when that was; None where nobody does in this time."""
        form = self.form
        if form is None or form.response or self.script.people in ("silent", "on the service"):
            return None
        moment = max(now, form.shown_at + ANSWERED_AFTER)
        if moment > now + seconds:
            return None
        question, is_first = form.asking.task.question or "", not self.answered
        self.answered.append((form.asking.task.task_id, question))
        is_stop = self.script.people == "stops" and question == self.script.questions[-1]
        params = {"reply": answer_to(question)}
        if self.script.people == "empty" and is_first:
            params["reply"] = " "
        if form.names_question:
            is_elsewhere = self.script.people == "elsewhere" and is_first
            params["question_id"] = "another" if is_elsewhere else form.asking.question_id
        form.response = {
            "chosen_options": ["Stop the agent" if is_stop else "Send"],
            "params_input": params,
            "responded_by_user": {"id": "1", "name": "Ada"},
            "responded_at": "2026-01-01T00:00:00+00:00",
        }
        return moment


def answer_to(question: str) -> str:
    """Return what is replied to a question, by a program or by someone."""
    return f"The answer to {question!r}."
