"""Airflow in a simulated life: the worker, the trigger, the tries, and what interrupts them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.artifact import Artifact
from airflow_agent_tasks.lifecycle.auto_reply import call_reply
from airflow_agent_tasks.lifecycle.callback import MakeCallback
from airflow_agent_tasks.lifecycle.check_status import stop_unwanted
from airflow_agent_tasks.lifecycle.execution import Execution, TaskTry
from airflow_agent_tasks.lifecycle.measurements import Count, Time
from airflow_agent_tasks.lifecycle.outcome import Outcome, describe_retry
from airflow_agent_tasks.lifecycle.run import (
    resume_after_callback,
    resume_after_wait,
    resume_with_answer,
    resume_without_event,
    run,
)
from airflow_agent_tasks.lifecycle.slots import DeferForSlot, TakeSlot
from airflow_agent_tasks.lifecycle.stop import stop_on_execution_timeout
from airflow_agent_tasks.lifecycle.stream_commands import EndStream, NextEvents, RecordEvent, StreamTask
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.lifecycle.trigger_event import build_callback_event
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from tests.simulated.away import DeferredError, ParkedError, TimedOutError, WorkerLostError
from tests.simulated.callbacks import RESUME_GUARD, find_wake_up, make_callback, read_start_fields
from tests.simulated.form import ANSWERED_AFTER, FormDesk, answer_to
from tests.simulated.script import CLEAR_AFTER_THE_END, Interruption, Script
from tests.simulated.service import BEGIN, SimulatedService
from tests.simulated.stream import SimulatedStream
from tests.simulated.triggerer import SimulatedTrigger
from tests.task_settings import build_settings

T = TypeVar("T")

#: Seconds that each command takes: the agent goes on meanwhile.
BETWEEN_COMMANDS = 0.4
#: What only tells, and cannot fail.
NOTES = {cmd.Log, Count, Time}
#: Seconds for which a task waits for a slot without a worker.
SLOT_WAIT = 40.0
#: No life takes more: one that goes round for ever is a fault.
MOST_COMMANDS = 600


class World:
    """
    Lives one life to its end.

    :param script: What happens.
    :param interruptions: What else happens; each counts the commands since the one before it.
    """

    def __init__(self, script: Script, interruptions: tuple[Interruption, ...] = ()) -> None:
        self.script = script
        self.service = SimulatedService(script)
        self.desk = FormDesk(script)
        self.settings = build_settings(read_start_fields(script), **script.settings)
        self.now = BEGIN
        #: The record in the state store, open or closed.
        self.stored: Submission | None = None
        self.xcoms: dict[str, Any] = {}
        #: What is in object storage.
        self.files: dict[str, bytes] = {}
        #: How often each command was performed, by the name of its class.
        self.performed: Counter[str] = Counter()
        self.state = "running"
        self.error: AgentTaskError | None = None
        self.result: AgentTask | None = None
        self.try_number, self.max_tries = 1, script.retries
        self.began_at = BEGIN
        #: When the last execution began, of this try or an earlier one.
        self.resumed_at = BEGIN
        self.armed: StartedTask | None = None
        self.stream: SimulatedStream | None = None
        self.saved_results: set[str] = set()
        self.transcript: list[dict[str, Any]] = []
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
        self.delivered: list[str] = []
        self._was_cleared = False
        self._is_worker_lost = False

    # --- Airflow

    @property
    def store(self) -> Submission | None:
        """The record of an agent task that a try may attach to."""
        return None if self.stored and self.stored.is_closed else self.stored

    def live(self) -> World:
        """Live to the end, from the beginning or from where :meth:`lose_worker` was called."""
        flow = self._after_loss() if self._is_worker_lost else self.begin(run)
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
        self.max_tries = self.try_number + self.script.retries

    @property
    def _task_instance_id(self) -> str:
        return f"try-{self.try_number}"

    def begin(self, entry: Callable[..., cmd.Flow[Outcome]], *args: Any, **kwargs: Any) -> Any:
        """Return a flow of a new execution."""
        owner, own_id = ("dag", "run", "task", -1, self.try_number, "id"), self._task_instance_id
        task_try = TaskTry(
            owner, own_id, self.try_number, self.max_tries, self.began_at, "http://airflow/log"
        )
        self.resumed_at = self.now
        self.armed = None
        self.stream = None
        self.execution = Execution(self.settings, task_try)
        return entry(self.execution, *args, **kwargs)

    def _go_on(self, flow: Any) -> Any:
        try:
            outcome = self.drive(flow)
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
            assert self.xcoms["task_id"] == outcome.task.task_id, "XCom names another agent task"
            self._end("success")
            if outcome.task.status is TaskState.COMPLETED:
                self.stored = None  # the listener closes it once Airflow has the result
        return None

    def _after_loss(self) -> Any:
        if self.is_killed:
            return self._end("killed")
        # The scheduler misses the worker's heartbeats, and ends the task itself.
        self.is_ended_by_server = self.try_number > self.max_tries
        return self._next_try(f"a try is left after try {self.try_number}")

    def _after_timeout(self) -> Any:
        return self._after_failure(self.drive(stop_on_execution_timeout(self.execution)))

    def _after_failure(self, error: AgentTaskError) -> Any:
        self._note(f"  failed: {type(error).__name__}: {error}")
        self._note(f"  {describe_retry(error, try_number=self.try_number, max_tries=self.max_tries)}")
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
        self.desk.end_try(self._task_instance_id)
        self.xcoms.pop("task_id", None)  # Airflow clears the XComs of the earlier try
        self.try_number += 1
        self.now += self.script.downtime
        self.began_at = self.now
        return self.begin(run)

    def _end(self, state: str) -> None:
        self._note(f"  the Airflow task ends: {state}")
        self.state = state

    def _stop_abandoned(self) -> None:
        """Do what the plugin in the API server and in the scheduler does once a task was ended there."""
        record = self.store
        is_ended_there = self.is_killed or self.is_ended_by_server
        if not (is_ended_there and record and (record.max_tries or 0) <= self.max_tries):
            return
        if record.task_id and record.on_kill_policy == "stop":
            self.service.stop(record.task_id, self.now)

    def _wait_in_triggerer(self, command: cmd.Defer | DeferForSlot) -> Any:
        if self._interrupted_while_away():
            return self._after_interruption_while_away()
        if isinstance(command, DeferForSlot):
            self.now += SLOT_WAIT
            return self.begin(run)
        woken_at = self._find_wake_up()
        if self.script.has_triggerer or command.deadline is None:
            trigger = SimulatedTrigger(self.service, self.settings, command)
            decision, self.now = trigger.run(self.now, woken_at)
        elif woken_at < command.deadline + 30.0:
            decision, self.now = None, woken_at
        else:
            self.now = command.deadline + 30.0
            reason = AgentTaskError("No triggerer reported the end of the wait in time.")
            return self.begin(resume_without_event, reason, Verdict.TIMEOUT)
        if decision is None:
            self._note("  the service calls")
            return self.begin(resume_after_callback)
        self._note(f"  the trigger reports: {decision.verdict.value}")
        if decision.verdict is Verdict.BUDGET:
            self.service.stop(command.started.agent_task_id, self.now)
        error = AgentTaskError(str(decision.error))
        error.is_final = bool(decision.error and decision.error.is_final)
        reported = Decision(decision.verdict, error=error)
        known = {"has_questions": command.has_questions, "is_pushed": "task_id" in self.xcoms}
        return self.begin(resume_after_wait, command.started, reported, **known)

    def _wait_for_answer(self, command: cmd.Park) -> Any:
        if self._interrupted_while_away():
            return self._after_interruption_while_away()
        if self.script.people == "on the service" and self.store and self.store.task_id:
            self.service.reply(self.store.task_id, self.now + ANSWERED_AFTER, now=self.now)
        latest, woken_at = self.now + max(command.seconds, RESUME_GUARD), self._find_wake_up()
        is_called = woken_at < latest
        moment = self.desk.answer_within(self.now, woken_at - self.now if is_called else command.seconds)
        if is_called and moment is None:
            self._note("  the service calls")
            self.now = woken_at
            return self.begin(resume_with_answer, build_callback_event(1), command.question_id)
        self.now = latest if moment is None else moment
        event = self.desk.form.response if self.desk.form else None
        self._note("  nobody answers" if moment is None else f"  the form is answered: {event}")
        return self.begin(resume_with_answer, event, command.question_id)

    def _find_wake_up(self) -> float:
        return find_wake_up(self.service, self.store, began_at=self.resumed_at, left_at=self.now)

    # --- interruptions

    def fork(self) -> World:
        """Return a world of its own that is as this one is now, but for the worker's process."""
        other = copy(self)
        other.service, other.desk = self.service.fork(), self.desk.fork()
        for name in (
            "xcoms",
            "files",
            "performed",
            "journal",
            "kinds",
            "delivered",
            "saved_results",
            "transcript",
        ):
            setattr(other, name, copy(getattr(self, name)))
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
            if not is_away and interruption.is_after:  # the worker is there to hear of it
                self._on_kill()
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
            self.service.stop(self.armed.agent_task_id, self.now)
            self.armed = None

    # --- the worker

    def drive(self, flow: cmd.Flow[T]) -> T:
        """Perform a flow."""
        try:
            return cmd.perform_all(flow, self._perform)
        finally:
            # Left to the garbage collector, it would be closed at any time: also in another test.
            flow.close()

    def _perform(self, command: cmd.Command[Any]) -> Any:
        # By identity, which is quicker than a pattern: there are ten million of them.
        if type(command) is cmd.ReadClock:
            return self.now
        if type(command) in NOTES:
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
        name = type(command).__name__
        self.performed[name] += 1
        for failure in self.script.failures:
            if failure.command == name and 0 <= self.performed[name] - failure.first < failure.times:
                raise failure.build_error()
        match command:  # the most frequent ones first
            case cmd.GetTask(started):
                task = self.service.get_task(started, self.now)
                # The status of a service with streams has neither.
                return replace(task, result=None, progress=None) if self.settings.stream else task
            case cmd.Sleep(seconds, minds_kill):
                if self.is_killed and minds_kill:
                    raise AgentTaskCancelledError("killed") if self.armed is None else WorkerLostError
                self.now += seconds
            case cmd.PushTask(task):
                self.xcoms["status"] = task.status.value
            case cmd.PushId(started):
                self.xcoms["task_id"] = started.agent_task_id
            case cmd.LoadSubmission():
                return self.stored
            case cmd.SaveSubmission(submission):
                self.stored = submission
                if self.is_thorough:
                    stored = json.loads(json.dumps(submission.to_json()))
                    assert Submission.from_json(stored) == submission, "the store changes the record"
                if submission.task_id:
                    self.service.recorded.add(submission.task_id)
                    if submission.result is not None:
                        self.saved_results.add(submission.task_id)
            case cmd.DropSubmission():
                self.stored = None
            case cmd.FindService():
                return self.service.dialect
            case cmd.StartTask(_, fields):
                self.armed = None
                return self.service.start(fields, self.now)
            case MakeCallback():
                return make_callback(self.script, command)
            case StreamTask(_, fields):
                self.armed = None
                task = self.service.start(fields, self.now)
                self.stream = SimulatedStream(self.script.stream, task.task_id, self.now)
                return replace(task, result=None)
            case NextEvents(seconds):
                if self.is_killed:
                    raise AgentTaskCancelledError("killed") if self.armed is None else WorkerLostError
                if self.stream is None:
                    return None
                events, self.now = self.stream.wait(self.service, self.now, seconds)
                return events
            case EndStream():
                has_file = self.stream and self.settings.artifacts_path
                self.stream = None
                return Artifact("transcript.jsonl", "files:transcript.jsonl") if has_file else None
            case RecordEvent(event):
                self.transcript.append(event)
            case cmd.SendMessage(started, text):
                self.service.send(started, text, self.now)
            case cmd.StopTask(started):
                self.armed = None
                return self.service.stop(started.agent_task_id, self.now)
            case cmd.StopOnKill(started):
                self.armed = started
                if self.is_killed:
                    self._on_kill()
            case cmd.Park():
                raise ParkedError(command)
            case cmd.Defer() | DeferForSlot():
                if self.is_killed and isinstance(command, cmd.Defer):  # Airflow refuses the deferral
                    self.drive(stop_unwanted(self.execution))
                raise DeferredError(command)
            case TakeSlot():
                if record := self.store:
                    is_repeated = not record.task_id and record.is_from_before_clear(self.max_tries)
                    assert is_repeated, "it asks for a slot, but its record takes one"
                return self.performed[name] > self.script.full
            case cmd.ReadFinalState():
                return "failed" if self.is_killed else None
            case cmd.PushArtifacts(artifacts):
                self.xcoms["artifacts"] = artifacts
            case cmd.KeepFile(folder, file_name, media_type, data):
                self.files[f"{folder}/{file_name}"] = data
                return Artifact(file_name, f"files:{folder}/{file_name}", len(data), media_type)
            case cmd.ListArtifacts(folder):
                kept = [path.removeprefix(f"{folder}/") for path in self.files]
                return [Artifact(file_name, f"files:{folder}/{file_name}") for file_name in kept]
            case cmd.PushQuestions(questions):
                self.xcoms["answers"] = questions.list_answers()
            case cmd.CallReply(question):
                return call_reply(answer_to, question, _Silent(), clock=lambda: self.now)
            case _:
                return self.desk.perform(command, self.now)
        return None


class _Silent:
    def info(self, event: str, /, *args: Any) -> None: ...
    def warning(self, event: str, /, *args: Any) -> None: ...
    def error(self, event: str, /, *args: Any) -> None: ...


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
