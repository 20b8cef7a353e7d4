"""
What the life of an agent task asks of the process that runs it.

The life is a generator (:data:`Flow`): it yields one command after the other, and gets the result of each
back or its failure thrown in. So the life itself is pure, and the performer of the commands decides how: a
worker for real, a test in a simulated world that may crash before and after each one. What ``yield from`` a
command brings has the type of the command's result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, NoReturn, TypeVar, cast

import msgspec

from airflow_agent_tasks.agent_task import AgentTask, StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.question_form import Asking
from airflow_agent_tasks.lifecycle.question_log import Reply
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.services.base import Dialect

T = TypeVar("T")


# Not a dataclass: every DAG file imports this module, and to make twenty of those takes 5 ms more.
class Command(msgspec.Struct, Generic[T], frozen=True):
    """
    Base of all commands, each with the type of its result.

    An AgentTaskError reaches the flow where it stands; any other exception ends the flow.
    """

    def __iter__(self) -> Generator[Command[Any], Any, T]:
        result: T = yield self
        return result


#: A part of the life: yields commands, returns a T.
Flow = Generator[Command[Any], Any, T]


def perform_all(flow: Flow[T], perform: Callable[[Command[Any]], Any]) -> T:
    """
    Perform the commands of a flow, and return or raise what it ends with.

    :param perform: Performs one command, and returns its result. Its AgentTaskError is thrown into the flow.
    """
    result: Any = None
    error: AgentTaskError | None = None
    while True:
        try:
            command = flow.throw(error) if error else flow.send(result)
        except StopIteration as end:
            return cast("T", end.value)
        result = error = None
        try:
            result = perform(command)
        except AgentTaskError as failure:
            error = failure


# --- the submission record, in Airflow's task state store ---------------------------------------------


class LoadSubmission(Command[Submission | None], frozen=True):
    """Return the record of the task instance, or None."""


class SaveSubmission(Command[None], frozen=True):
    """Write the record."""

    submission: Submission


class DropSubmission(Command[None], frozen=True):
    """Remove the record, so that the next try starts a new agent task."""


# --- the service --------------------------------------------------------------------------------------


class FindService(Command[Dialect], frozen=True):
    """Read the Airflow connection, and return what its service is like."""


class StartTask(Command[AgentTask], frozen=True):
    """Start an agent task, and return it."""

    agent_id: str | None
    fields: Mapping[str, Any]


class GetTask(Command[AgentTask], frozen=True):
    """
    Return the agent task as the service describes it.

    :param retries: Repeat the request where it fails; a caller that asks again later needs no repeats.
    """

    started: StartedTask
    retries: bool = True


class SendMessage(Command[None], frozen=True):
    """Send the agent a message."""

    started: StartedTask
    text: str


class StopTask(Command[AgentTask], frozen=True):
    """Cancel the agent task, or pause it where the service cannot cancel; return it."""

    started: StartedTask


# --- time ---------------------------------------------------------------------------------------------


class ReadClock(Command[float], frozen=True):
    """Return the time in seconds since 1970. Never fails."""


class Sleep(Command[None], frozen=True):
    """
    Wait on the worker; raises AgentTaskCancelledError once a kill has stopped the agent task.

    :param minds_kill: False for a wait that a kill does not end: the agent task is being stopped anyway.
    """

    seconds: float
    minds_kill: bool = True


class Defer(Command[NoReturn], frozen=True):
    """
    Leave the worker and wait in the triggerer; never returns.

    :param started: The agent task.
    :param working_since: When it was submitted or got its last reply, in seconds since 1970.
    :param status: The status in XCom, or None.
    :param not_before: When the trigger checks for the first time, in seconds since 1970.
    :param deadline: When to give up, in seconds since 1970; None for never.
    :param has_questions: True where the resume needs the questions of the submission record.
    """

    started: StartedTask
    working_since: float
    status: str | None
    not_before: float
    deadline: float | None
    has_questions: bool


class Park(Command[NoReturn], frozen=True):
    """
    Leave the worker until someone answers the form or the time is up; never returns.

    :param question_id: The question.
    :param seconds: The most seconds to stay away; Airflow's own minimum applies.
    """

    question_id: str
    seconds: float


# --- Airflow ------------------------------------------------------------------------------------------


class StopOnKill(Command[None], frozen=True):
    """From now on, a kill of this worker stops this agent task, unless a next try will attach to it."""

    started: StartedTask


class ReadFinalState(Command[str | None], frozen=True):
    """Return the final state in which someone has put the task instance meanwhile, or None."""


class PushTask(Command[None], frozen=True):
    """Push what has changed of id, status, exit code, question and progress to XCom. Never fails."""

    task: AgentTask


class PushAnswers(Command[None], frozen=True):
    """Push who answered what to XCom, if it has changed. Never fails."""

    answers: list[dict[str, Any]]


class Log(Command[None], frozen=True):
    """Write a line into the task's log."""

    level: str
    message: str
    args: tuple[Any, ...] = ()


# --- questions ----------------------------------------------------------------------------------------


class CallReply(Command[Reply | None], frozen=True):
    """Call the operator's ``reply`` with the question; return its Reply, or None where it leaves it open."""

    question: str


class ShowForm(Command[bool], frozen=True):
    """
    Show the question under Required Actions; return False where the plugin cannot be reached.

    :param asking: What to show.
    :param reopen: Remove an answer that was given to this very question.
    """

    asking: Asking
    reopen: bool = False


class MakeForm(Command[None], frozen=True):
    """Create the form by Airflow's own means; a form that is there already keeps its text."""

    asking: Asking


class ReadForm(Command[Mapping[str, Any] | None], frozen=True):
    """
    Return the form's answer as Airflow gives it, or None.

    :param form_id: The form that asked; an answer may be in it, if it is that of an earlier try.
    """

    form_id: str


class CloseForm(Command[Mapping[str, Any] | None], frozen=True):
    """Close the form, unless it is answered: then return the answer as Airflow gives it."""


class Notify(Command[None], frozen=True):
    """Call the operator's notifiers with the question. Never fails."""

    question: str | None


# --- the log lines ------------------------------------------------------------------------------------


def info(message: str, *args: Any) -> Log:
    """Return the command to log a message; its arguments as the standard library's loggers take them."""
    return Log("info", message, args)


def warning(message: str, *args: Any) -> Log:
    """Return the command to log a warning."""
    return Log("warning", message, args)


def warn_on_failure(flow: Flow[T]) -> Flow[T | None]:
    """Perform a flow that may fail without harm: its AgentTaskError becomes a warning, its result None."""
    try:
        return (yield from flow)
    except AgentTaskError as error:
        yield from warning("%s", error)
        return None
