"""
The form of a question under Required Actions: builds its text, and reads its answer.

The Airflow UI shows the subject as plain text, in the list and above the form. Below it, the UI shows the
body as Markdown, and the field for the reply. So the question begins in the subject and continues in the
body, and the body is short enough that the field is visible without scrolling in a window 1,000 pixels high.
All text from a service, an agent or a DAG author goes into fenced blocks, where nothing is markup, no URL
becomes a link, and nothing is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.lifecycle.form_layout import (
    MAX_SHOWN,
    SHORTENED,
    count_fitting,
    fence,
    join_blocks,
    lay_out,
    link,
    one_line,
    wrap_lines,
)
from airflow_agent_tasks.lifecycle.question_log import SEND, STOP, Reply
from airflow_agent_tasks.text import clean, shorten

OPTIONS = (SEND, STOP)
REPLY_FIELD = "reply"
QUESTION_FIELD = "question_id"
#: Maximum number of characters of a reply; longer ones are rejected.
MAX_REPLY = 10_000
#: Maximum number of columns of the question in the subject.
MAX_SUBJECT = 120
#: Lines for the notice and both blocks together; the question gets those that the others do not need.
MAX_LINES = 11
LINES_OF_NOTICE = 2
ANYONE = "anyone allowed to answer for this DAG"
#: The line of an instruction that only the sandbox reads.
_SANDBOX_LINE = re.compile(r"\A\s*#sandbox(?![^\s{])[^\r\n]*(?:\r\n?|\n)?")
#: Units of time, longest first. Each is used for times of at least twice its length.
_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("s", 1))


@dataclass(frozen=True)
class Form:
    """
    The content of a form, as Airflow's human-in-the-loop forms define it.

    :param subject: One line of plain text.
    :param body: Markdown.
    :param params: The fields.
    """

    subject: str
    body: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Asking:
    """
    A pending question, with everything that someone needs to answer it.

    :param number: The number of the question in this agent task, from 1.
    :param question_id: The id of the question, unique among all questions.
    :param task: The agent task that asks.
    :param title: The service's name in messages.
    :param instruction: The agent's instruction.
    :param log_url: The URL of the task's log in the Airflow UI.
    :param notice: A first paragraph, such as why an answer was rejected.
    :param asked_at: When the question was first seen, in seconds since 1970.
    :param input_timeout: Seconds to wait for an answer, or None.
    :param input_default: The reply to send after that; None if the task fails.
    :param on_timeout: What happens to the agent if the task fails: "stop" or "leave".
    :param users: The names of the users who may answer; empty for everyone with permission in Airflow.
    """

    number: int
    question_id: str
    task: AgentTask
    title: str
    instruction: str
    log_url: str
    notice: str = ""
    asked_at: float = 0.0
    input_timeout: float | None = None
    input_default: str | None = None
    on_timeout: str = "stop"
    users: tuple[str, ...] = ()

    def build_form(self) -> Form:
        """Return the form that shows the question."""
        title, rest = _split_title(self.task.question or "")
        reload = " If this page has been open for a while, reload it first: the agent may have asked again."
        body = self._build_body(rest, deadline=self._find_deadline(), advice=reload)
        params = {REPLY_FIELD: build_reply_param(), QUESTION_FIELD: build_question_param(self.question_id)}
        return Form(f"Question {self.number}: {title}".strip(), body, params)

    def build_lasting_form(self) -> Form:
        """Return a form that stays correct if Airflow keeps its text when the agent asks again."""
        newest = (
            "**This form cannot show later questions.** Always answer the latest question, which is in the "
            f"[log]({link(self.log_url)}) and in XCom `question`. This was question {self.number}:"
        )
        body = self._build_body(self.task.question or "", notice=newest)
        subject = "The agent has a question; the latest one is in XCom question and in the log"
        return Form(subject, body, {REPLY_FIELD: build_reply_param()})

    def _build_body(self, question: str, *, deadline: str = "", notice: str = "", advice: str = "") -> str:
        notices = [each for each in (self.notice, notice) if each]
        facts = list(self._list_facts(deadline))
        lines = wrap_lines(question, MAX_LINES - len(facts) - LINES_OF_NOTICE * len(notices))
        log = f"[log]({link(self.log_url)})"
        where = f"The {log} shows what happened so far."
        if lines and lines[-1].endswith(SHORTENED):
            where = f"The full question is in the {log} and in XCom `question`."
        how = f"**{SEND}** sends your reply; **{STOP}** stops the agent and fails this task. {where}{advice}"
        return join_blocks([*notices, fence(lines), fence(facts), how])

    def _find_deadline(self) -> str:
        with suppress(OverflowError, ValueError):  # later than the year 9999
            if self.input_timeout is not None:
                return format_time(self.asked_at + self.input_timeout)
        return ""

    def _list_facts(self, deadline: str) -> Iterator[str]:
        yield from lay_out("Who may answer", ", ".join(self.users) or ANYONE)
        if self.input_timeout is None:
            yield from lay_out("Answer by", "no time limit")
        else:
            duration = _describe_duration(self.input_timeout)
            since = (
                f"{deadline}, {duration} after the question" if deadline else f"{duration} after a question"
            )
            yield from lay_out("Answer by", since)
            yield from lay_out("After that", self._describe_timeout(), most=2)
        yield from lay_out("Instruction", _SANDBOX_LINE.sub("", self.instruction), most=2)
        agent = f", agent {one_line(self.task.agent_id, 60)}" if self.task.agent_id else ""
        yield from lay_out("Agent task", f"{one_line(self.task.task_id, 60)} on {self.title}{agent}")
        yield from lay_out("Progress", self._describe_progress())

    def _describe_timeout(self) -> str:
        if self.input_default is not None:
            return f"this reply is sent: {self.input_default}"
        fate = "stopped" if self.on_timeout == "stop" else "left waiting"
        return f"this task fails, and the agent is {fate}"

    def _describe_progress(self) -> str:
        progress, parts = self.task.progress, []
        if progress and progress.steps_completed is not None:
            total = "" if progress.total_steps is None else f" of {progress.total_steps}"
            parts.append(f"{progress.steps_completed}{total} steps done")
        if progress and progress.current_step:
            parts.append(f"at: {progress.current_step}")
        return ", ".join(parts)


def build_reply_param() -> dict[str, Any]:
    """Return the form's only visible field, as Airflow serializes a param."""
    # Without "null", the Airflow UI disables all buttons, including Stop, until the user types something.
    schema = {"type": ["null", "string"], "title": "Reply", "format": "multiline", "maxLength": MAX_REPLY}
    help_text = f"Your reply to the agent. Required with {SEND}."
    return {"value": None, "description": help_text, "schema": schema, "source": "task"}


def build_question_param(question_id: str) -> dict[str, Any]:
    """
    Return a hidden field with the question's id, as Airflow serializes a param.

    A user can still submit a form that they opened for an earlier question, and Airflow accepts it.
    """
    schema = {"type": "string", "const": question_id}
    return {"value": question_id, "description": None, "schema": schema, "source": "task"}


def names_other_question(event: Mapping[str, Any], question_id: str) -> bool:
    """Return whether an answer names another question; an answer over REST may name none."""
    given = event.get("params_input")
    named = given.get(QUESTION_FIELD) if isinstance(given, Mapping) else None
    return named not in (None, question_id)


def read_response(event: Any) -> Reply | None:
    """
    Return the user's choice and text, or None if nobody has answered.

    A user who may answer can send anything: Airflow does not check the field against its schema.
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


def format_time(now: float) -> str:
    """Return a time in seconds since 1970 as an ISO 8601 timestamp."""
    return datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds")


def _describe_duration(seconds: float) -> str:
    unit, length = next((unit for unit in _UNITS if seconds >= 2 * unit[1]), _UNITS[-1])
    count = seconds / length
    return f"about {round(count, 1 if count < 10 else 0):.6g} {unit}"


def _read_name(user: Mapping[str, Any], key: str) -> str:
    return shorten(_storable(str(user.get(key) or "unknown")))


def _split_title(question: str) -> tuple[str, str]:
    """Return the beginning of a question as one line for the subject, and the rest of it."""
    title, _, rest = clean(question, MAX_SHOWN).strip().partition("\n")
    longest = count_fitting(title, MAX_SUBJECT)
    if len(title) <= longest:
        return title, rest
    # At a space, if there is one.
    longest -= len(" …")
    end = title.rfind(" ", 1, longest + 1)
    end = end if end > 0 else longest
    return f"{title[:end]} …", f"… {title[end:].lstrip()}\n{rest}"


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")
