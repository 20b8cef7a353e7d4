"""
The form of a question under Required Actions: its text, and how its answer is read.

The Airflow UI renders the body as Markdown. All text of a service or an agent goes into fenced blocks, where
nothing is markup, no address becomes a link, and nothing is loaded.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.lifecycle.question_log import SEND, STOP, Reply
from airflow_agent_tasks.text import shorten

OPTIONS = (SEND, STOP)
REPLY_FIELD = "reply"
QUESTION_FIELD = "question_id"
#: The most characters of a reply; longer ones are rejected.
MAX_REPLY = 10_000
#: Limits for text of a service or an agent: someone has to read it, and a browser to lay it out.
MAX_SHOWN = 4_000
MAX_SHOWN_OF_INSTRUCTION = 1_000
MAX_LINES = 60
MAX_SUBJECT = 120
#: Characters that fit into a line of Airflow's form, which does not wrap fenced blocks.
LINE_LENGTH = 80

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
#: Joins letters in some scripts; all other format characters hide or reverse their neighbours.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class Form:
    """
    What the form shows, in the terms of Airflow's human-in-the-loop forms.

    :param subject: One line of plain text.
    :param body: Markdown.
    :param params: Its fields.
    """

    subject: str
    body: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Asking:
    """
    Everything that someone needs to answer.

    :param number: Which question of this agent task it is, from 1.
    :param question_id: Its id among all questions.
    :param task: The agent task, at its question.
    :param title: The service's name in sentences.
    :param instruction: The agent's instruction.
    :param log_url: The address of the task's log in the Airflow UI.
    :param notice: A first paragraph, such as why an answer was rejected.
    """

    number: int
    question_id: str
    task: AgentTask
    title: str
    instruction: str
    log_url: str
    notice: str = ""

    def build_form(self) -> Form:
        """Return the form with the question in it."""
        question = self.task.question or ""
        parts = (self.notice, f"**Question {self.number}** of the agent:", *self._describe(question))
        params = {REPLY_FIELD: build_reply_param(), QUESTION_FIELD: build_question_param(self.question_id)}
        subject = f"Question {self.number}: {_line(question, MAX_SUBJECT)}".strip()
        return Form(subject, _join(parts), params)

    def build_lasting_form(self) -> Form:
        """Return a form that stays true where Airflow keeps its text although the agent asks again."""
        parts = (
            self.notice,
            "**This form cannot show what the agent asks later.** The question to answer is the newest one: "
            f"its number and text are in the [log]({_link(self.log_url)}), and its text is in the XCom "
            "`question` of this task.",
            f"This was question {self.number}:",
            *self._describe(self.task.question or ""),
        )
        subject = "The agent asks; its newest question is in the XCom question and in the log"
        return Form(subject, _join(parts), {REPLY_FIELD: build_reply_param()})

    def _describe(self, question: str) -> tuple[str, ...]:
        return (
            _fence(question, MAX_SHOWN),
            f"Type your reply and press **{SEND}**. **{STOP}** stops the agent and fails this task.",
            "Working on:",
            _fence("\n".join(self._list_facts()), MAX_SHOWN_OF_INSTRUCTION),
            "Original instruction:",
            _fence(self.instruction, MAX_SHOWN_OF_INSTRUCTION),
            f"[This task in Airflow, with its log]({_link(self.log_url)})",
        )

    def _list_facts(self) -> list[str]:
        task, progress = self.task, self.task.progress
        facts = [f"Agent task {_line(task.task_id)} on {self.title}"]
        if task.agent_id:
            facts.append(f"Agent {_line(task.agent_id)}")
        if progress and progress.steps_completed is not None:
            total = "" if progress.total_steps is None else f" of {progress.total_steps}"
            facts.append(f"{progress.steps_completed}{total} steps done")
        if progress and progress.current_step:
            facts.append(f"At: {_line(progress.current_step)}")
        return facts


def build_reply_param() -> dict[str, Any]:
    """Return the form's one visible field, as Airflow serializes a param."""
    schema = {"type": ["null", "string"], "title": "Reply", "format": "multiline", "maxLength": MAX_REPLY}
    help_text = f"Your reply to the agent. Required with {SEND}."
    return {"value": None, "description": help_text, "schema": schema, "source": "task"}


def build_question_param(question_id: str) -> dict[str, Any]:
    """
    Return a hidden field that holds the question's id, as Airflow serializes a param.

    A form that was opened for an earlier question can still be submitted, and Airflow accepts it.
    """
    schema = {"type": "string", "const": question_id}
    return {"value": question_id, "description": None, "schema": schema, "source": "task"}


def names_other_question(event: Mapping[str, Any], question_id: str) -> bool:
    """Return True if an answer names another question; one over REST need not name any."""
    given = event.get("params_input")
    named = given.get(QUESTION_FIELD) if isinstance(given, Mapping) else None
    return named not in (None, question_id)


def read_response(event: Any) -> Reply | None:
    """
    Return what a user chose and wrote, or None where nobody has answered.

    Users who may answer can send anything: Airflow does not check the field against its schema.
    """
    chosen = event.get("chosen_options") if isinstance(event, Mapping) else None
    if not isinstance(chosen, list | tuple) or not chosen:
        return None
    given = event.get("params_input")
    text = given.get(REPLY_FIELD) if isinstance(given, Mapping) else None
    user = event.get("responded_by_user")
    user = user if isinstance(user, Mapping) else {}
    moment = event.get("responded_at")
    return Reply(
        chosen_option=STOP if STOP in chosen else SEND,
        text=_storable(text) if isinstance(text, str) and text.strip() else None,
        answered_by={"id": _read_name(user, "id"), "name": _read_name(user, "name")},
        answered_at=moment.isoformat() if hasattr(moment, "isoformat") else shorten(str(moment)),
    )


def clean(text: str, limit: int) -> str:
    """Return text without characters that are invisible or reverse others; line breaks are kept."""
    text = _LINE_ENDS.sub("\n", text[: limit * 2]).expandtabs(4)
    text = "".join(c for c in text if c in "\n" + _JOINERS or unicodedata.category(c)[0] != "C")
    return text.strip("\n")[:limit]


def _fence(text: str, limit: int) -> str:
    lines = [piece for line in clean(text, limit).split("\n") for piece in _wrap(line)]
    if len(lines) > MAX_LINES or len(text) > limit:
        lines = [*lines[:MAX_LINES], "… (shortened)"]
    # Counted in what is shown: taking a character out may have joined two runs of backticks.
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    ticks = "`" * max(3, longest + 1)
    # Without a language the Airflow UI shows a fenced block as running text, all in one line.
    return "\n".join([f"{ticks}text", *lines, ticks])


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, LINE_LENGTH, replace_whitespace=False, break_on_hyphens=False) or [""]


def _line(text: str, limit: int = 200) -> str:
    return shorten(" ".join(clean(text, limit * 2).split()), limit)


def _read_name(user: Mapping[str, Any], key: str) -> str:
    return shorten(_storable(str(user.get(key) or "unknown")))


def _link(url: str) -> str:
    # In angle brackets, since a run's id may hold parentheses.
    return f"<{re.sub('[<>]', '', url)}>"


def _join(parts: tuple[str, ...]) -> str:
    return "\n\n".join(part for part in parts if part)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")
