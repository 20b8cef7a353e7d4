"""
The commands through which the lifecycle of an agent task acts on the outside world.

The lifecycle is a generator, a ``Flow``. It yields one command after another, and the caller sends the
result of each back or throws its failure in. So the lifecycle is pure, and the caller decides how to perform
a command: a worker does it for real, and a test does it in a simulated world that may crash before and after
each one. The value of ``yield from command`` has the type of the command's result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, NoReturn, TypeVar, cast

import msgspec

from airflow_agent_tasks.agent_task import AgentTask, StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.artifact import Artifact
from airflow_agent_tasks.lifecycle.question_form import Asking
from airflow_agent_tasks.lifecycle.question_log import Questions, Reply
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.services.base import Dialect

T = TypeVar("T")


# Not a dataclass: every DAG file imports this module, and creating twenty dataclasses takes 5 ms more.
class Command(msgspec.Struct, Generic[T], frozen=True):
    """
    Base class of all commands, generic in the type of the result.

    If a command fails with an AgentTaskError, the flow can catch it; any other exception ends the flow.
    """

    def __iter__(self) -> Generator[Command[Any], Any, T]:
        result: T = yield self
        return result


#: A part of the lifecycle: yields commands, returns a T.
Flow = Generator[Command[Any], Any, T]


def perform_all(flow: Flow[T], perform: Callable[[Command[Any]], Any]) -> T:
    """
    Perform the commands of a flow, and return its result or raise its error.

    :param perform: Performs one command and returns its result. If it raises an AgentTaskError, that is
        thrown into the flow.
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
        del command  # it may hold a file, and the next one is made before this one is replaced


# --- the submission record, in Airflow's task state store ---------------------------------------------


class LoadSubmission(Command[Submission | None], frozen=True):
    """Return the record of the task instance, or None."""


class SaveSubmission(Command[None], frozen=True):
    """Write the record."""

    submission: Submission


class DropSubmission(Command[None], frozen=True):
    """Remove the record of a start that started nothing."""


# --- the service --------------------------------------------------------------------------------------


class FindService(Command[Dialect], frozen=True):
    """Read the Airflow connection, and return the dialect of its service."""


class StartTask(Command[AgentTask], frozen=True):
    """Start an agent task, and return it."""

    agent_id: str | None
    fields: Mapping[str, Any]


class GetTask(Command[AgentTask], frozen=True):
    """
    Return the agent task as the service describes it.

    :param retries: Repeat the request if it fails; a caller that checks again later needs no repeats.
    """

    started: StartedTask
    retries: bool = True


class SendMessage(Command[None], frozen=True):
    """Send the agent a message."""

    started: StartedTask
    text: str


class StopTask(Command[AgentTask], frozen=True):
    """Cancel the agent task, or pause it if the service cannot cancel; return it."""

    started: StartedTask


# --- time ---------------------------------------------------------------------------------------------


class ReadClock(Command[float], frozen=True):
    """Return the time in seconds since 1970. Never fails."""


class Sleep(Command[None], frozen=True):
    """
    Wait without leaving the worker; raises AgentTaskCancelledError once a kill has stopped the agent task.

    :param minds_kill: False if a kill should not end the wait, because the agent task is being stopped.
    """

    seconds: float
    minds_kill: bool = True


class Defer(Command[NoReturn], frozen=True):
    """
    Leave the worker and wait in the triggerer; never returns.

    :param started: The agent task.
    :param working_since: When it was submitted or got its last reply, in seconds since 1970.
    :param not_before: When the trigger should check for the first time, in seconds since 1970.
    :param is_called_back: True if it should check only in case a callback is lost.
    :param deadline: When to give up, in seconds since 1970; None for never.
    :param has_questions: True if the resume needs the questions of the submission record.
    """

    started: StartedTask
    working_since: float
    not_before: float
    is_called_back: bool
    deadline: float | None
    has_questions: bool


class Park(Command[NoReturn], frozen=True):
    """
    Leave the worker until someone answers the form or the time is up; never returns.

    :param question_id: The id of the question.
    :param seconds: Maximum number of seconds to wait; Airflow's own minimum applies.
    """

    question_id: str
    seconds: float


# --- Airflow ------------------------------------------------------------------------------------------


class StopOnKill(Command[None], frozen=True):
    """From now on, a kill of this worker stops this agent task, unless another try will attach to it."""

    started: StartedTask


class ReadFinalState(Command[str | None], frozen=True):
    """Return the final state that someone has given the task instance in the meantime, or None."""


class PushId(Command[None], frozen=True):
    """Push the agent task's id to XCom, and link to its page. Never fails."""

    started: StartedTask


class PushTask(Command[None], frozen=True):
    """Push the agent task's status, exit code, question and progress to XCom if changed. Never fails."""

    task: AgentTask


class PushQuestions(Command[None], frozen=True):
    """Push the answers and who gave them to XCom, and link to an open question, if changed. Never fails."""

    questions: Questions


class KeepFile(Command[Artifact], frozen=True):
    """Store a file in the agent task's folder below ``artifacts_path``; an existing one is replaced."""

    folder: str
    name: str
    media_type: str
    data: bytes


class ListArtifacts(Command[list[Artifact]], frozen=True):
    """Return what earlier executions kept, as XCom and the folder show it."""

    folder: str


class PushArtifacts(Command[None], frozen=True):
    """Push the list of artifacts to XCom, if it changed. Never fails."""

    artifacts: list[dict[str, Any]]


class Log(Command[None], frozen=True):
    """Write a line to the task's log."""

    level: str
    message: str
    args: tuple[Any, ...] = ()


# --- questions ----------------------------------------------------------------------------------------


class CallReply(Command[Reply | None], frozen=True):
    """Call the operator's ``reply`` with the question; return the Reply, or None to leave it open."""

    question: str


class ShowForm(Command[bool], frozen=True):
    """
    Show the question under Required Actions; return False if the plugin cannot be reached.

    :param asking: The question and its context.
    :param reopen: Remove an answer that the form already has for this question.
    """

    asking: Asking
    reopen: bool = False


class MakeForm(Command[None], frozen=True):
    """Create the form through Airflow's own API; an existing form keeps its text."""

    asking: Asking


class ReadForm(Command[Mapping[str, Any] | None], frozen=True):
    """
    Return the form's answer as Airflow stores it, or None.

    :param form_id: The form that asked. It may be the form of an earlier try, and have an answer.
    """

    form_id: str


class CloseForm(Command[Mapping[str, Any] | None], frozen=True):
    """Close the form; if it already has an answer, return that as Airflow stores it."""


class Notify(Command[None], frozen=True):
    """Call the operator's notifiers with the question. Never fails."""

    question: str | None


# --- the log lines ------------------------------------------------------------------------------------


def info(message: str, *args: Any) -> Log:
    """Return the command to log a message, with arguments as for the standard library's loggers."""
    return Log("info", message, args)


def warning(message: str, *args: Any) -> Log:
    """Return the command to log a warning."""
    return Log("warning", message, args)


def warn_on_failure(flow: Flow[T]) -> Flow[T | None]:
    """Run a flow whose failure is harmless: an AgentTaskError is logged, and the result is None."""
    try:
        return (yield from flow)
    except AgentTaskError as error:
        yield from warning("%s", error)
        return None
