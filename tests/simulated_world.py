"""
A simulated world for the life of an agent task: the service, Airflow and its users, by a clock of its own.

It performs the life's commands as a worker would, and interrupts them at chosen points: a crash, a clear or a
kill, before or after the n-th command. Whatever the interruption leaves of Airflow goes on as Airflow does:
the next try, the trigger, the resume, the plugin that stops abandoned agent tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from airflow_agent_tasks.agent_task import AgentTask, Progress, StartedTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskCancelledError,
    AgentTaskError,
    AgentTaskNotFoundError,
    AgentTaskRejectedError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.auto_reply import call_reply
from airflow_agent_tasks.lifecycle.execution import Execution, TaskTry
from airflow_agent_tasks.lifecycle.outcome import Outcome
from airflow_agent_tasks.lifecycle.question_form import Asking
from airflow_agent_tasks.lifecycle.run import (
    resume_after_wait,
    resume_with_answer,
    resume_without_event,
    run,
)
from airflow_agent_tasks.lifecycle.stop import stop_on_execution_timeout
from airflow_agent_tasks.lifecycle.submission import Submission
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait, Verdict
from airflow_agent_tasks.services.base import Capability, Dialect
from tests.task_settings import build_settings

T = TypeVar("T")

BEGIN = 1_700_000_000.0
#: Seconds until the service shows that a reply arrived.
SHOWN_LATE = 3.0
#: Seconds until someone answers.
ANSWERED_AFTER = 40.0
#: Seconds that each command takes: the agent goes on meanwhile.
BETWEEN_COMMANDS = 0.4
#: No life takes more: one that goes round for ever is a fault.
MOST_COMMANDS = 600
ACTIVE = {TaskState.QUEUED, TaskState.RUNNING, TaskState.AWAITING_INPUT}


@dataclass(frozen=True)
class Script:
    """
    What happens in a life, apart from interruptions.

    :param service: The service.
    :param settings: The operator's arguments other than the defaults.
    :param work: Seconds of work before each question and before the end.
    :param questions: What each agent task asks, one after the other.
    :param people: ``answers``, ``stops`` (the agent, at the last question) or ``silent``.
    :param ends: How each agent task ends that is started, the last one for all later ones.
    :param exit_code: The exit code of the last end.
    :param retries: Of the Airflow task.
    :param downtime: Seconds between the loss of a worker and the next try.
    :param outage: Seconds since the beginning, from and to, in which the service answers no status check.
    :param lost_answers: Requests (``start``, ``message``) that work once but whose answer is lost.
    :param failures: Commands that fail once, by their class names.
    :param has_triggerer: False where no triggerer is alive: a deferral ends by its own timeout.
    :param has_plugin: False where the API server has no plugin for the form.
    :param end: How the Airflow task ends.
    :param other_end: How else, where an interruption gives the agent the time to complete.
    """

    service: Dialect
    settings: Mapping[str, Any] = field(default_factory=dict)
    work: float = 9.0
    questions: tuple[str, ...] = ()
    people: str = "answers"
    ends: tuple[TaskState, ...] = (TaskState.COMPLETED,)
    exit_code: int | None = None
    retries: int = 4
    downtime: float = 3.0
    outage: tuple[float, float] = (0.0, 0.0)
    lost_answers: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    has_triggerer: bool = True
    has_plugin: bool = True
    end: str = "success"
    other_end: str = ""


@dataclass(frozen=True)
class Interruption:
    """
    Something that happens at one command of a life.

    :param kind: ``crash`` (the worker is gone), ``timeout`` (Airflow's ``execution_timeout``), ``clear`` or
        ``kill`` (a user marks the task, or its run ends).
    :param command: Its number, from 1.
    :param is_after: True where the command was carried out, but nobody got its result.
    """

    kind: str
    command: int
    is_after: bool


#: A user clears the Airflow task once it has ended, however it did.
CLEAR_AFTER_THE_END = Interruption("clear", 0, is_after=True)


@dataclass
class SimulatedTask:
    """One agent task on the service."""

    task_id: str
    key: str
    created_at: float
    end: TaskState
    exit_code: int | None
    work: float
    questions: tuple[str, ...]
    heard: list[tuple[float, int, str]] = field(default_factory=list)
    stopped: TaskState | None = None

    def locate(self, now: float) -> tuple[int, TaskState]:
        """Return how many replies show by now, and the state."""
        shown = sum(at + SHOWN_LATE <= now for at, _, _ in self.heard)
        if self.stopped:
            return shown, self.stopped
        begun_at = self.heard[shown - 1][0] + SHOWN_LATE if shown else self.created_at
        if now < begun_at + self.work:
            return shown, TaskState.RUNNING
        return shown, TaskState.AWAITING_INPUT if shown < len(self.questions) else self.end

    def describe(self, service: Dialect, now: float, *, reused: bool = False) -> AgentTask:
        shown, state = self.locate(now)
        is_over = state in (TaskState.COMPLETED, TaskState.FAILED)
        return AgentTask(
            service.service,
            self.task_id,
            state,
            agent_id="agent" if service.service == "shinzo" else None,
            exit_code=self.exit_code if is_over else None,
            result=f"result of {self.task_id}" if state is TaskState.COMPLETED else None,
            question=self.questions[shown] if state is TaskState.AWAITING_INPUT else None,
            progress=Progress("working", steps_completed=2 * shown),
            reused=reused,
        )


@dataclass
class Form:
    """The one form of the task instance; it survives retries."""

    asking: Asking
    names_question: bool
    shown_at: float
    response: dict[str, Any] | None = None


class WorkerLostError(BaseException):
    """The process is gone."""


class TimedOutError(BaseException):
    """Airflow's ``execution_timeout`` has passed."""


class DeferredError(BaseException):
    """The task waits in the triggerer."""


class ParkedError(BaseException):
    """The task waits for an answer."""


class World:
    """
    Lives one life to its end.

    :param script: What happens.
    :param interruptions: What else happens; each counts the commands since the one before it.
    """

    def __init__(self, script: Script, interruptions: tuple[Interruption, ...] = ()) -> None:
        self.script = script
        self.service = script.service
        self.settings = build_settings({self.service.instruction_field: "Work."}, **script.settings)
        self.now = BEGIN
        self.tasks: dict[str, SimulatedTask] = {}
        self.lost_answers = list(script.lost_answers)
        self.failures = list(script.failures)
        self.store: Submission | None = None
        self.form: Form | None = None
        self.xcoms: dict[str, Any] = {}
        self.state = "running"
        self.error: AgentTaskError | None = None
        self.result: AgentTask | None = None
        self.try_number, self.max_tries = 1, script.retries
        self.began_at = BEGIN
        self.armed: StartedTask | None = None
        self.is_killed = False
        self.is_ended_by_server = False
        self.pending = list(interruptions)
        self.since_last = 0
        #: Each command, and what became of it: what is printed of a life that fails.
        self.journal: list[str | cmd.Command[Any]] = []
        #: The kinds of the interruptions so far.
        self.kinds: list[str] = []
        #: Check what is slow to check: that each record survives the store.
        self.is_thorough = False
        #: Called after each command of the worker.
        self.on_command: Callable[[World], None] | None = None
        #: The ids that the submission record has ever named; others the service alone knows.
        self.recorded: set[str] = set()
        #: Agent tasks that were started while another was active.
        self.doubled: list[str] = []
        self.delivered: list[str] = []
        #: What users were asked: the agent task and the question, as often as one answered.
        self.answered: list[tuple[str, str]] = []
        self.clears = 0
        self.polls = 0
        self._was_cleared = False
        self._is_worker_lost = False

    # --- Airflow

    def live(self) -> World:
        """Live to the end, from the beginning or from where :meth:`lose_worker` was called."""
        flow = self._after_loss() if self._is_worker_lost else self._begin_try(run)
        while True:
            while flow is not None:
                flow = self._go_on(flow)
            self._stop_abandoned()
            if (flow := self._clear_after_the_end()) is None:
                return self

    def _clear_after_the_end(self) -> Any:
        if not self.pending or self.pending[0] != CLEAR_AFTER_THE_END:
            return None
        self.pending.pop(0)
        self.state, self.is_killed, self.is_ended_by_server, self.since_last = "running", False, False, 0
        self.kinds.append("clear")
        self._clear()
        return self._next_try("cleared after the end")

    def _clear(self) -> None:
        self.clears += 1
        self.max_tries = self.try_number + self.script.retries

    def _begin_try(self, entry: Callable[..., cmd.Flow[Outcome]], *args: Any, **kwargs: Any) -> Any:
        owner = ("dag", "run", "task", -1, self.try_number, "id")
        task_try = TaskTry(owner, self.try_number, self.max_tries, self.began_at, "http://airflow/log")
        self.armed = None
        self.execution = Execution(self.settings, task_try)
        return entry(self.execution, *args, **kwargs)

    def _go_on(self, flow: Any) -> Any:
        try:
            outcome = self._drive(flow)
        except WorkerLostError:
            return self._after_loss()
        except DeferredError as deferred:
            return self._wait_in_triggerer(deferred.args[0])
        except ParkedError as parked:
            return self._wait_for_answer(parked.args[0])
        except TimedOutError:
            return self._after_timeout()
        except AgentTaskError as error:
            return self._after_failure(error)
        if self.is_killed:
            self._end("killed")
        elif outcome.skip_reason:
            self._end("skipped")
        else:
            self.result = outcome.task
            self.delivered.append(outcome.task.task_id)
            self._end("success")
            if outcome.task.status is TaskState.COMPLETED:
                self.store = None  # as the listener does once Airflow has the result
        return None

    def _after_loss(self) -> Any:
        if self.is_killed:
            return self._end("killed")
        # The scheduler misses the worker's heartbeats, and ends the task itself.
        self.is_ended_by_server = self.try_number > self.max_tries
        return self._next_try(f"a try is left after try {self.try_number}")

    def _after_timeout(self) -> Any:
        self._drive(stop_on_execution_timeout(self.execution))
        return self._next_try("up for retry after the execution_timeout")

    def _after_failure(self, error: AgentTaskError) -> Any:
        self._note(f"  failed: {type(error).__name__}: {error}")
        self.error = error
        if self.is_killed:
            return self._end("killed")
        if error.is_final:
            return self._end("failed")
        return self._next_try("up for retry")

    def _next_try(self, why: str) -> Any:
        if self.try_number > self.max_tries:
            return self._end("failed")
        self._note(f"  {why}")
        self.try_number += 1
        self.now += self.script.downtime
        self.began_at = self.now
        return self._begin_try(run)

    def _end(self, state: str) -> None:
        self._note(f"  the Airflow task ends: {state}")
        self.state = state

    def _stop_abandoned(self) -> None:
        """Do what the plugin in the API server and in the scheduler does once a task was ended there."""
        record = self.store
        is_ended_there = self.is_killed or self.is_ended_by_server
        if not (is_ended_there and record and record.max_tries == self.max_tries):
            return
        if record.task_id and record.on_kill_policy == "stop":
            self._stop(record.task_id)

    def _wait_in_triggerer(self, command: cmd.Defer) -> Any:
        if self._interrupted_while_away():
            return self._after_interruption_while_away()
        settings = self.settings
        if not self.script.has_triggerer and command.deadline is not None:
            self.now = command.deadline + 30.0
            reason = AgentTaskError("No triggerer ended the wait in time.")
            return self._begin_try(resume_without_event, reason, Verdict.TIMEOUT)
        wait = TaskWait(
            started_at=command.started.started_at,
            poll_interval=settings.poll_interval,
            deadline=command.deadline,
            max_outage=settings.max_outage,
            draw=lambda: 0.0,
        )
        self.now = max(self.now, command.not_before)
        while (decision := self._check_from_trigger(wait, command.started)).waits:
            self.now += decision.seconds
            self.polls += 1
            assert self.polls < MOST_COMMANDS, "the trigger waits for ever"
        self._note(f"  the trigger reports: {decision.verdict.value}")
        error = AgentTaskError(str(decision.error))
        error.is_final = bool(decision.error and decision.error.is_final)
        reported = Decision(decision.verdict, error=error)
        return self._begin_try(
            resume_after_wait, command.started, reported, has_open_question=command.has_open_question
        )

    def _check_from_trigger(self, wait: TaskWait, started: StartedTask) -> Decision:
        try:
            task = self._get_task(started)
        except AgentTaskError as error:
            return wait.on_error(error, now=self.now)
        return wait.on_state(task, now=self.now)

    def _wait_for_answer(self, command: cmd.Park) -> Any:
        if self._interrupted_while_away():
            return self._after_interruption_while_away()
        self.now += max(command.seconds, 6.0) if not self._is_answered_within(command.seconds) else 0.0
        event = self.form.response if self.form else None
        return self._begin_try(resume_with_answer, event, command.question_id)

    def _is_answered_within(self, seconds: float) -> bool:
        form = self.form
        if form is None or form.response or self.script.people == "silent":
            return False
        moment = max(self.now, form.shown_at + ANSWERED_AFTER)
        if moment > self.now + seconds:
            return False
        self.now = moment
        question = form.asking.task.question or ""
        self.answered.append((form.asking.task.task_id, question))
        is_stop = self.script.people == "stops" and question == self.script.questions[-1]
        form.response = {
            "chosen_options": ["Stop the agent" if is_stop else "Send"],
            "params_input": {
                "reply": answer_to(question),
                **({"question_id": form.asking.question_id} if form.names_question else {}),
            },
            "responded_by_user": {"id": "1", "name": "Ada"},
            "responded_at": "2026-01-01T00:00:00+00:00",
        }
        self._note(f"  {form.response['chosen_options'][0]} is chosen in the form of {question!r}")
        return True

    # --- interruptions

    def fork(self) -> World:
        """Return a world of its own that is as this one is now, but for the worker's process."""
        other = copy(self)
        other.tasks = {task_id: replace(task, heard=[*task.heard]) for task_id, task in self.tasks.items()}
        other.form = self.form and replace(self.form)
        for name, value in vars(self).items():
            if isinstance(value, list | set) or name == "xcoms":
                setattr(other, name, copy(value))
        other.since_last = 0
        other.on_command = None
        return other

    def lose_worker(self) -> None:
        """Let the worker's process die here; :meth:`live` goes on with the next try."""
        self._note("  *** crash")
        self.kinds.append("crash")
        self._is_worker_lost = True

    def _interrupted_while_away(self) -> bool:
        """Tell whether the task was cleared or marked while no worker had it; a crash finds none there."""
        return self.is_killed or self._was_cleared

    def _after_interruption_while_away(self) -> Any:
        if self.is_killed:
            return self._end("killed")
        self._was_cleared = False
        return self._next_try("cleared while away from the worker")

    def _due(self, *, is_after: bool) -> Interruption | None:
        if not self.pending or (self.pending[0].command, self.pending[0].is_after) != (
            self.since_last,
            is_after,
        ):
            return None
        self.since_last = 0
        return self.pending.pop(0)

    def _interrupt(self, interruption: Interruption, *, is_away: bool = False) -> None:
        self._note(f"  *** {interruption.kind}")
        self.kinds.append(interruption.kind)
        if interruption.kind == "clear":
            self._clear()
            self._was_cleared = is_away
        elif interruption.kind == "kill":
            self.is_killed = True
            if not is_away:
                self._on_kill()
            return
        elif interruption.kind == "timeout" and not is_away:
            raise TimedOutError
        if not is_away:
            raise WorkerLostError

    def _on_kill(self) -> None:
        """Do what the worker's ``on_kill`` does; the worker goes on for a moment after it."""
        if self.armed and self.settings.on_kill_policy == "stop":
            self._stop(self.armed.agent_task_id)
            self.armed = None

    # --- the worker

    def _drive(self, flow: cmd.Flow[T]) -> T:
        try:
            return self._perform_all(flow)
        finally:
            # Left to the garbage collector, it would be closed at any time: also in another test.
            flow.close()

    def _perform_all(self, flow: cmd.Flow[T]) -> T:
        result: Any = None
        error: AgentTaskError | None = None
        while True:
            try:
                command = flow.throw(error) if error else flow.send(result)
            except StopIteration as end:
                return cast("T", end.value)
            result = error = None
            try:
                result = self._perform(command)
            except AgentTaskError as failure:
                error = failure

    def _perform(self, command: cmd.Command[Any]) -> Any:
        match command:
            case cmd.ReadClock():
                return self.now
            case cmd.Log():
                self.journal.append(command)
                return None
        self.since_last += 1
        self.now += BETWEEN_COMMANDS
        self._note(command)
        if found := self._due(is_after=False):
            self._interrupt(found)
        try:
            result = self._do(command)
        except AgentTaskError:
            self._after_command()
            raise
        except (DeferredError, ParkedError):
            if found := self._due(is_after=True):
                self._interrupt(found, is_away=True)
            raise
        self._after_command()
        return result

    def _after_command(self) -> None:
        if found := self._due(is_after=True):
            self._interrupt(found)
        if self.on_command:
            self.on_command(self)

    def _note(self, line: str | cmd.Command[Any]) -> None:
        self.journal.append(line)
        if len(self.journal) > MOST_COMMANDS:
            raise AssertionError("it goes round for ever")

    def _do(self, command: cmd.Command[Any]) -> Any:
        if (name := type(command).__name__) in self.failures:
            self.failures.remove(name)
            raise AgentTaskUnavailableError(f"{name} fails")
        match command:
            case cmd.LoadSubmission():
                return self.store
            case cmd.SaveSubmission(submission):
                self.store = submission
                if self.is_thorough:
                    stored = json.loads(json.dumps(submission.to_json()))
                    assert Submission.from_json(stored) == submission, "the store changes the record"
                if submission.task_id:
                    self.recorded.add(submission.task_id)
            case cmd.DropSubmission():
                self.store = None
            case cmd.FindService():
                return self.service
            case cmd.StartTask(_, fields):
                self.armed = None
                return self._start(fields)
            case cmd.GetTask(started):
                return self._get_task(started)
            case cmd.SendMessage(started, text):
                self._send(started, text)
            case cmd.StopTask(started):
                self.armed = None
                return self._stop(started.agent_task_id)
            case cmd.StopOnKill(started):
                self.armed = started
                if self.is_killed:
                    self._on_kill()
            case cmd.Sleep(seconds):
                if self.is_killed:
                    raise AgentTaskCancelledError("killed") if self.armed is None else WorkerLostError
                self.now += seconds
            case cmd.Defer() | cmd.Park():
                raise (DeferredError if isinstance(command, cmd.Defer) else ParkedError)(command)
            case cmd.ReadFinalState():
                return "failed" if self.is_killed else None
            case cmd.PushTask(task):
                self.xcoms["status"] = task.status.value
            case cmd.PushAnswers(answers):
                self.xcoms["answers"] = answers
            case cmd.CallReply(question):
                return call_reply(answer_to, question, _Silent(), clock=lambda: self.now)
            case _:
                return self._use_form(command)
        return None

    def _use_form(self, command: cmd.Command[Any]) -> Any:
        form = self.form
        match command:
            case cmd.ShowForm(asking, reopen) if self.script.has_plugin:
                if form is None or reopen or form.asking.question_id != asking.question_id:
                    self.form = Form(asking, names_question=True, shown_at=self.now)
                return True
            case cmd.ShowForm():
                return False
            case cmd.MakeForm(asking):
                # Airflow's own way removes an answer, and keeps the text: who answers looks into the log.
                self.form = Form(asking, names_question=False, shown_at=self.now)
            case cmd.ReadForm() if form and self.script.has_plugin:
                return form.response
            case cmd.CloseForm() if form and self.script.has_plugin:
                if form.response and form.response["chosen_options"]:
                    return form.response
                form.response = {"chosen_options": []}
        return None

    # --- the service

    def _start(self, fields: Mapping[str, Any]) -> AgentTask:
        key = fields.get("idempotency_key") or fields["metadata"]["idempotency_key"]
        known = [task for task in self.tasks.values() if task.key == key]
        is_idempotent = Capability.IDEMPOTENT_START in self.service.capabilities
        task = known[0] if known and is_idempotent else self._create(key)
        if "start" in self.lost_answers:
            self.lost_answers.remove("start")
            raise AgentTaskUncertainError("the answer to the start was lost")
        return task.describe(self.service, self.now, reused=bool(known))

    def _create(self, key: str) -> SimulatedTask:
        ends, number = self.script.ends, len(self.tasks)
        # A start that was never recorded is known to the service alone, which finds it by its key or never.
        has_keys = Capability.IDEMPOTENT_START in self.service.capabilities
        if any(has_keys or task.task_id in self.recorded for task in self.list_active()):
            self.doubled.append(f"tsk_{number + 1}")
        end = ends[min(number, len(ends) - 1)]
        task = SimulatedTask(
            f"tsk_{number + 1}",
            key,
            self.now,
            end,
            self.script.exit_code,
            self.script.work,
            self.script.questions,
        )
        self.tasks[task.task_id] = task
        return task

    def _get_task(self, started: StartedTask) -> AgentTask:
        begin, end = self.script.outage
        if begin <= self.now - BEGIN < end:
            raise AgentTaskUnavailableError("the service is down")
        if started.agent_task_id not in self.tasks:
            raise AgentTaskNotFoundError("unknown", status=404)
        return self.tasks[started.agent_task_id].describe(self.service, self.now)

    def _send(self, started: StartedTask, text: str) -> None:
        task = self.tasks[started.agent_task_id]
        shown, state = task.locate(self.now)
        if state is not TaskState.AWAITING_INPUT:
            raise AgentTaskRejectedError("it awaits no input", status=409)
        task.heard.append((self.now, shown, text))
        if "message" in self.lost_answers:
            self.lost_answers.remove("message")
            raise AgentTaskUncertainError("the answer to the message was lost")

    def _stop(self, task_id: str) -> AgentTask:
        task = self.tasks[task_id]
        _, state = task.locate(self.now)
        if state in ACTIVE:
            can_cancel = Capability.CANCEL in self.service.capabilities
            task.stopped = TaskState.CANCELLED if can_cancel else TaskState.PAUSED
        return task.describe(self.service, self.now)

    def list_active(self) -> list[SimulatedTask]:
        """Return the agent tasks that run or will."""
        return [task for task in self.tasks.values() if task.locate(self.now)[1] in ACTIVE]


class _Silent:
    def info(self, event: str, /, *args: Any) -> None: ...
    def warning(self, event: str, /, *args: Any) -> None: ...


def answer_to(question: str) -> str:
    """Return what is replied to a question, by a program or by someone."""
    return f"The answer to {question!r}."


def describe(command: str | cmd.Command[Any]) -> str:
    """Return a line of the journal."""
    match command:
        case cmd.Log(_, message, args):
            return "  log: " + message % args
        case cmd.SaveSubmission(submission):
            stages = [f"{question.number} {question.stage.value}" for question in submission.questions.items]
            return f"SaveSubmission({submission.task_id}, {submission.on_kill_policy}, questions: {stages})"
        case cmd.StartTask():
            return "StartTask"
        case cmd.PushTask(task):
            return f"PushTask({task.status.value})"
        case cmd.ShowForm(asking) | cmd.MakeForm(asking):
            return f"{type(command).__name__}({asking.task.question!r})"
    return str(command)
