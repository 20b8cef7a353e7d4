"""The worker's driver: performs the lifecycle's commands, and ends the execution as Airflow expects."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout, TaskAwaitingInput

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.reported_end import watch_reported_end
from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard
from airflow_agent_tasks.airflow_compat.state_store import SubmissionStore
from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES, read_state
from airflow_agent_tasks.airflow_compat.task_telemetry import read_stats_tags, read_trace_carrier
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.auto_reply import call_reply
from airflow_agent_tasks.lifecycle.callback import MakeCallback
from airflow_agent_tasks.lifecycle.check_status import stop_unwanted
from airflow_agent_tasks.lifecycle.execution import Execution, TaskSettings
from airflow_agent_tasks.lifecycle.measurements import Measurement, measure_failure, measure_stop
from airflow_agent_tasks.lifecycle.outcome import Outcome
from airflow_agent_tasks.lifecycle.slots import DeferForSlot, TakeSlot
from airflow_agent_tasks.lifecycle.stop import stop_on_execution_timeout
from airflow_agent_tasks.lifecycle.stream_commands import EndStream, NextEvents, RecordEvent, StreamTask
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.telemetry.reporter import Reporter
from airflow_agent_tasks.worker.artifacts import ArtifactStore
from airflow_agent_tasks.worker.callbacks import make_callback
from airflow_agent_tasks.worker.deferrals import defer_for_slot, defer_to_trigger
from airflow_agent_tasks.worker.failures import build_airflow_failure, reported_failures
from airflow_agent_tasks.worker.forms import Forms
from airflow_agent_tasks.worker.kill import WorkerKill
from airflow_agent_tasks.worker.links import Links
from airflow_agent_tasks.worker.notifiers import notify
from airflow_agent_tasks.worker.slots import take_slot
from airflow_agent_tasks.worker.streams import Streams
from airflow_agent_tasks.worker.task_try import describe_try
from airflow_agent_tasks.worker.transcripts import TranscriptKeeper
from airflow_agent_tasks.worker.xcoms import XComs

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

    from airflow_agent_tasks.airflow_compat.required_action import HITLUser

T = TypeVar("T")


@dataclass(frozen=True)
class Callbacks:
    """
    The parts of an operator that are not plain values.

    :param find_hook: Returns the hook; raises AgentTaskError if the connection cannot be read.
    :param defer: The operator's ``defer``.
    :param reply: The operator's ``reply``.
    :param notifiers: Airflow notifiers to call with a question.
    :param assigned_users: The users who may answer; empty for everyone with permission in Airflow.
    """

    find_hook: Callable[[], AgentTaskHook]
    defer: Callable[..., None]
    reply: Callable[[str], str | None] | None
    notifiers: Collection[BaseNotifier]
    assigned_users: Collection[HITLUser]


class Driver:
    """
    Performs the commands of one execution.

    :param settings: The settings of the DAG author.
    :param callbacks: The parts of the operator that are not plain values.
    :param context: The context of the try.
    :param log: The task's log.
    """

    def __init__(self, settings: TaskSettings, callbacks: Callbacks, context: Context, log: Log) -> None:
        ti: Any = context["ti"]
        self._settings = settings
        self._callbacks = callbacks
        self._context = context
        self._ti = ti
        self._log = log
        self._store = SubmissionStore(context)
        self._links = Links(ti, callbacks.find_hook, log)
        self._xcoms = XComs(ti, log, is_wanted=settings.pushes_xcoms)
        self._artifacts = ArtifactStore(settings.artifacts_path, self._xcoms)
        transcripts = TranscriptKeeper(
            settings.conn_id,
            self._xcoms,
            self._artifacts,
            log,
            keeps_all=settings.artifacts_path is not None,
        )
        self._streams = Streams(callbacks.find_hook, transcripts, self._check_not_killed)
        self._forms = Forms(ti, callbacks.assigned_users, log)
        self._kill: WorkerKill | None = None
        self._is_killed = self._is_kill_pending = self._is_delivered = False
        self.execution = Execution(settings, describe_try(ti), redact=self._streams.redact)
        self._reporter = Reporter(settings.conn_id, tags=read_stats_tags(ti), carrier=read_trace_carrier(ti))

    def run(self, flow: cmd.Flow[Outcome]) -> AgentTask:
        """Perform a flow of the execution; return the agent task, or raise the exception Airflow expects."""
        with reported_failures(self._ti, self._log, pushes_xcoms=self._settings.pushes_xcoms):
            outcome = self._run(flow)
        if outcome.skip_reason:
            raise AirflowSkipException(outcome.skip_reason)
        if outcome.task.status is TaskState.COMPLETED and self._settings.wait_for_completion:
            watch_reported_end(self._on_success)
        return outcome.task

    def finish_delivery(self) -> None:
        """Close the record and report the end of the agent task, if Airflow has its result."""
        # Airflow carries on as if the task had succeeded even if it could not record the success.
        if not self._is_delivered:
            return
        if task := self.execution.last_task:
            self.perform(self.execution.close(self.execution.started, task))
        self._reporter.report(self.execution.measurements, self.execution.last_task)

    def _on_success(self, is_accepted: bool) -> None:
        self._is_delivered = is_accepted

    def _run(self, flow: cmd.Flow[Outcome]) -> Outcome:
        try:
            return self.perform(flow)
        except AgentTaskError as error:
            self._reporter.report([measure_failure(error)], self.execution.last_task)
            error.task = error.task or self.execution.last_task
            raise build_airflow_failure(error) from None
        except AirflowTaskTimeout:
            late = self.perform(stop_on_execution_timeout(self.execution))
            self._reporter.report([measure_failure(late)], self.execution.last_task)
            raise build_airflow_failure(late, AirflowTaskTimeout) from None
        finally:
            self._streams.end()
            # So that the span of an execution that defers or parks names the agent task too.
            self._reporter.report([], self.execution.last_task)

    def on_kill(self) -> None:
        """Stop the agent task unless another try will attach to it; runs in a signal handler."""
        self._is_killed = True
        if self._kill is None:  # not started yet, or stopped already
            return
        if self._settings.on_kill_policy == "leave":
            self._log.warning("%s is left running, because on_kill_policy is 'leave'.", self.execution.name)
        elif self._kill.run():
            self._kill = None

    def perform(self, flow: cmd.Flow[T]) -> T:
        """Perform a flow, and return its result or raise its error."""
        return cmd.perform_all(flow, self._do)

    def _do(self, command: cmd.Command[Any]) -> Any:
        if self._is_kill_pending and not isinstance(command, cmd.SaveSubmission):
            self._is_kill_pending = False
            self.on_kill()
        match command:
            case cmd.LoadSubmission() | cmd.SaveSubmission() | cmd.DropSubmission():
                return self._store.perform(command)
            case cmd.ShowForm() | cmd.MakeForm() | cmd.ReadForm() | cmd.CloseForm():
                return self._forms.perform(command)
            case cmd.PushTask() if self._is_stopped_by_kill:
                return None  # the status from before the kill is out of date
            case cmd.KeepFile() | cmd.ListArtifacts():
                return self._artifacts.perform(command)
            case cmd.PushId() | cmd.PushTask() | cmd.PushQuestions() | cmd.PushArtifacts():
                self._links.perform(command)
                return self._xcoms.perform(command)
            case cmd.FindService() | cmd.StartTask() | cmd.GetTask() | cmd.SendMessage() | cmd.StopTask():
                return self._call_service(command)
            case MakeCallback():
                return make_callback(command, self._ti, self._callbacks.find_hook().settings.base_url)
            case StreamTask():
                self._kill = None  # the earlier agent task has ended
                return self._streams.perform(command)
            case NextEvents() | RecordEvent() | EndStream():
                return self._streams.perform(command)
            case cmd.ReadClock():
                return time.time()
            case cmd.Sleep(seconds, minds_kill):
                return self._sleep(seconds, minds_kill=minds_kill)
            case cmd.Defer():
                return self._defer(command)
            case cmd.Park():
                return self._park(command)
            case TakeSlot() | DeferForSlot():
                return self._perform_for_slot(command)
            case cmd.StopOnKill(started):
                return self._stop_on_kill(started)
            case cmd.ReadFinalState():
                state = read_state(self._ti, self._log)
                return state if state in FINAL_STATES else None
            case cmd.CallReply(question):
                return call_reply(self._callbacks.reply, question, self._log, clock=time.time)
            case cmd.Notify(question):
                return notify(self._callbacks.notifiers, self._context, question, self._log)
            case cmd.Log(level, message, args):
                return getattr(self._log, level)(message, *args)
            case Measurement():
                return self._reporter.report([command], self.execution.last_task)
        raise TypeError(f"the worker does not know the command {type(command).__name__}")

    def _call_service(self, command: cmd.Command[Any]) -> Any:
        hook = self._callbacks.find_hook()
        self._reporter.service = hook.dialect.service
        match command:
            case cmd.StartTask(agent_id, fields):
                self._kill = None  # the earlier agent task has ended
                return hook.start_task(agent_id=agent_id, **fields)
            case cmd.GetTask(started, retries):
                return hook.get_task(started.agent_task_id, started.agent_id, retries=retries)
            case cmd.SendMessage(started, text):
                return hook.send_message(started.agent_task_id, text, started.agent_id)
            case cmd.StopTask(started):
                self._kill = None  # a kill would do the same
                return hook.stop_task(started.agent_task_id, started.agent_id)
        return hook.dialect

    def _perform_for_slot(self, command: TakeSlot | DeferForSlot) -> bool:
        if isinstance(command, DeferForSlot):
            defer_for_slot(self._callbacks.defer, self._settings.conn_id)
        return take_slot(self._callbacks.find_hook(), self._ti, self._log)

    def _stop_on_kill(self, started: StartedTask) -> None:
        self._kill = WorkerKill(
            self._callbacks.find_hook,
            started,
            self._ti,
            self._log,
            self._on_stopped_by_kill,
            has_next_try=self.execution.task_try.has_next,
        )
        # If the kill came during the start, the id is saved before the kill decides what to do with it.
        self._is_kill_pending = self._is_killed

    def _on_stopped_by_kill(self, task: AgentTask) -> None:
        self._xcoms.push_status(task)
        self._reporter.report(measure_stop(task, self.execution.last_task), self.execution.last_task)

    def _sleep(self, seconds: float, *, minds_kill: bool) -> None:
        if minds_kill:
            self._check_not_killed()
        time.sleep(seconds)

    def _check_not_killed(self) -> None:
        if self._is_killed and self._kill and self._kill.is_undecided:
            self.on_kill()
        if self._is_stopped_by_kill:
            message = "No agent task was started, because this task was killed."  # it waits for a slot
            if self.execution.last_started:
                # To the next try, a clear may look like a retry: it must not wait for a task that is paused.
                self.perform(cmd.warn_on_failure(self.execution.mark(is_stopping=True)))
                message = f"{self.execution.name} was stopped, because this task was killed."
            failure = AgentTaskCancelledError(message)
            failure.retry_note = "Whether Airflow retries the task depends on who killed it."
            raise failure

    @property
    def _is_stopped_by_kill(self) -> bool:
        return self._is_killed and self._kill is None

    def _defer(self, command: cmd.Defer) -> NoReturn:
        self._check_not_killed()
        watch_reported_end(self._on_deferral)
        noted_status = self._xcoms.noted_status
        defer_to_trigger(self._callbacks.defer, command, self._settings, noted_status=noted_status)

    def _on_deferral(self, is_accepted: bool) -> None:
        if not is_accepted:
            self.perform(cmd.warn_on_failure(stop_unwanted(self.execution)))

    def _park(self, command: cmd.Park) -> NoReturn:
        raise TaskAwaitingInput(
            method_name="take_answer",
            kwargs={"question_id": command.question_id},
            timeout=timedelta(seconds=max(command.seconds, read_resume_guard())),
        )
