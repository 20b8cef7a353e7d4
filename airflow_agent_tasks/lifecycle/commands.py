"""
What the life of an agent task asks of the process that runs it.

The life is a generator (:data:`Flow`): it yields one command after the other, and gets the result of each
back or its failure thrown in. So the life itself is pure, and the performer of the commands decides how: a
worker for real, a test in a simulated world that may crash before and after each one. What ``yield from`` a
command brings has the type of the command's result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar, cast

from airflow_agent_tasks.agent_task import AgentTask, Progress, StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.question_form import Asking
from airflow_agent_tasks.lifecycle.question_log import Reply
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.services.base import Dialect

T = TypeVar("T")


@dataclass(frozen=True)
class Command(Generic[T]):
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


@dataclass(frozen=True)
class LoadSubmission(Command[Submission | None]):
    """Return the record of the task instance, or None."""


@dataclass(frozen=True)
class SaveSubmission(Command[None]):
    """Write the record."""

    submission: Submission


@dataclass(frozen=True)
class DropSubmission(Command[None]):
    """Remove the record, so that the next try starts a new agent task."""


# --- the service --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FindService(Command[Dialect]):
    """Read the Airflow connection, and return what its service is like."""


@dataclass(frozen=True)
class StartTask(Command[AgentTask]):
    """Start an agent task, and return it."""

    agent_id: str | None
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class GetTask(Command[AgentTask]):
    """
    Return the agent task as the service describes it.

    :param retries: Repeat the request where it fails; a caller that asks again later needs no repeats.
    """

    started: StartedTask
    retries: bool = True


@dataclass(frozen=True)
class SendMessage(Command[None]):
    """Send the agent a message."""

    started: StartedTask
    text: str


@dataclass(frozen=True)
class StopTask(Command[AgentTask]):
    """Cancel the agent task, or pause it where the service cannot cancel; return it."""

    started: StartedTask


# --- time ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadClock(Command[float]):
    """Return the time in seconds since 1970. Never fails."""


@dataclass(frozen=True)
class Sleep(Command[None]):
    """Wait on the worker; raises AgentTaskCancelledError once a kill has stopped the agent task."""

    seconds: float


@dataclass(frozen=True)
class Defer(Command[NoReturn]):
    """
    Leave the worker and wait in the triggerer; never returns.

    :param started: The agent task.
    :param not_before: When the trigger checks for the first time, in seconds since 1970.
    :param deadline: When to give up, in seconds since 1970; None for never.
    :param has_open_question: True where the resume needs the questions of the submission record.
    """

    started: StartedTask
    not_before: float
    deadline: float | None
    has_open_question: bool


@dataclass(frozen=True)
class Park(Command[NoReturn]):
    """
    Leave the worker until someone answers the form or the time is up; never returns.

    :param question_id: The question.
    :param seconds: The most seconds to stay away; Airflow's own minimum applies.
    """

    question_id: str
    seconds: float


# --- Airflow ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StopOnKill(Command[None]):
    """From now on, a kill of this worker stops this agent task, unless a next try will attach to it."""

    started: StartedTask


@dataclass(frozen=True)
class ReadFinalState(Command[str | None]):
    """Return the final state in which someone has put the task instance meanwhile, or None."""


@dataclass(frozen=True)
class PushTask(Command[None]):
    """Push id, status, exit code, question and progress to XCom."""

    task: AgentTask


@dataclass(frozen=True)
class PushProgress(Command[None]):
    """Push the progress to XCom, if it has changed."""

    progress: Progress


@dataclass(frozen=True)
class PushAnswers(Command[None]):
    """Push who answered what to XCom, if it has changed."""

    answers: list[dict[str, Any]]


@dataclass(frozen=True)
class Log(Command[None]):
    """Write a line into the task's log."""

    level: str
    message: str
    args: tuple[Any, ...] = field(default=())


# --- questions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallReply(Command[Reply | None]):
    """Call the operator's ``reply`` with the question; return its Reply, or None where it leaves it open."""

    question: str


@dataclass(frozen=True)
class ShowForm(Command[bool]):
    """
    Show the question under Required Actions; return False where the plugin cannot be reached.

    :param asking: What to show.
    :param reopen: Remove an answer that was given to this very question.
    """

    asking: Asking
    reopen: bool = False


@dataclass(frozen=True)
class MakeForm(Command[None]):
    """Create the form by Airflow's own means; a form that is there already keeps its text."""

    asking: Asking


@dataclass(frozen=True)
class ReadForm(Command[Mapping[str, Any] | None]):
    """Return the form's answer as Airflow gives it, or None."""


@dataclass(frozen=True)
class CloseForm(Command[Mapping[str, Any] | None]):
    """Close the form, unless it is answered: then return the answer as Airflow gives it."""


@dataclass(frozen=True)
class Notify(Command[None]):
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
    """Perform a flow that may fail without harm: its AgentTaskError becomes a warning, and the result None."""
    try:
        return (yield from flow)
    except AgentTaskError as error:
        yield from warning("%s", error)
        return None
