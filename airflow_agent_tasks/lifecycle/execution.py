"""One execution of an Airflow task on a worker: ``execute`` or a resume, to its end, deferral or parking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.artifact import ArtifactList
from airflow_agent_tasks.lifecycle.commands import (
    DropSubmission,
    Flow,
    LoadSubmission,
    PushQuestions,
    ReadClock,
    SaveSubmission,
    StopOnKill,
    warn_on_failure,
)
from airflow_agent_tasks.lifecycle.measurements import Measurement
from airflow_agent_tasks.lifecycle.open_stream import OpenStream, Streamed
from airflow_agent_tasks.lifecycle.question_log import Questions
from airflow_agent_tasks.lifecycle.state_log import StateLog
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.lifecycle.wait_policy import TaskWait
from airflow_agent_tasks.services.http import keep

#: Seconds by which the clocks of two workers may differ.
CLOCK_DIFFERENCE = 600.0


@dataclass(frozen=True)
class TaskSettings:
    """
    The operator's arguments and the deployment's options of the same names, documented there.

    :param start_fields: The rendered start fields by name.
    :param execution_timeout: Airflow's own ``execution_timeout`` in seconds, or None.
    :param pushes_xcoms: Airflow's own ``do_xcom_push``.
    """

    start_fields: Mapping[str, Any]
    conn_id: str
    agent_id: str | None
    wait_for_completion: bool
    deferrable: bool
    poll_interval: float | None
    min_poll_interval: float
    max_poll_interval: float
    callback_poll_interval: float
    timeout: float | None
    execution_timeout: float | None
    on_timeout: str
    on_kill_policy: str
    on_uncertain_submit: str
    max_outage: float
    on_awaiting_input: str
    has_reply: bool
    has_notifiers: bool
    input_timeout: float | None
    input_default: str | None
    input_recheck_interval: float
    skip_on_exit_code: frozenset[int]
    no_retry_on_exit_code: frozenset[int]
    stream: bool
    budget: Mapping[str, float] | None
    artifacts_path: str | None
    max_xcom_bytes: int
    pushes_xcoms: bool


@dataclass(frozen=True)
class TaskTry:
    """
    The try of the Airflow task.

    :param owner: The values that identify the task instance: DAG, run, task, map index, try, id.
    :param task_instance_id: Airflow's id of the task instance, which changes with each try.
    :param try_number: The number of the try, from 1.
    :param max_tries: Airflow's ``max_tries``; the number of the last try is one higher.
    :param began_at: When Airflow started the try, in seconds since 1970.
    :param log_url: The URL of its log in the Airflow UI.
    """

    owner: tuple[object, ...]
    task_instance_id: str
    try_number: int
    max_tries: int
    began_at: float
    log_url: str

    @property
    def has_next(self) -> bool:
        """True if Airflow will try again after a failure."""
        return self.try_number <= self.max_tries


class Execution:
    """
    The state of one execution: its only copy of the submission record, and the agent task.

    :param settings: The settings of the DAG author.
    :param task_try: The try of the Airflow task.
    :param redact: Returns what the agent says, joined from several events, without the connection's secrets.
        Default: unchanged.
    """

    def __init__(
        self, settings: TaskSettings, task_try: TaskTry, *, redact: Callable[[str], str] = keep
    ) -> None:
        self.settings = settings
        self.task_try = task_try
        self.redact = redact
        #: The record as stored; None if there is none or it has not been loaded.
        self.submission: Submission | None = None
        self.wait: TaskWait | None = None
        self.state_log = StateLog()
        #: The agent task that this execution last started or attached to, or None.
        self.last_started: StartedTask | None = None
        #: That agent task as last seen, or None.
        self.last_task: AgentTask | None = None
        #: What is measured about it once it has ended. For a completed one, this is reported when Airflow has
        #: its result: otherwise it would count twice if Airflow cannot store that and a retry attaches to it.
        self.measurements: tuple[Measurement, ...] = ()
        #: Its event stream, while the execution follows one.
        self.stream: OpenStream | None = None
        #: What only that stream has reported.
        self.streamed = Streamed()
        #: What that agent task made.
        self.artifacts = ArtifactList()
        #: True while its result is being stored.
        self.is_keeping_result = False
        #: True once files were dropped, because there is no ``artifacts_path``.
        self.has_dropped_files = False

    @property
    def started(self) -> StartedTask:
        """The agent task; raises AgentTaskError before it is started or found."""
        if self.last_started is None:
            raise AgentTaskError("No agent task is known in this execution.")
        return self.last_started

    @property
    def name(self) -> str:
        """The name of the agent task in messages."""
        return f"Agent task {self.started.agent_task_id}"

    def adopt(self, started: StartedTask) -> Flow[None]:
        """Make this the agent task of the execution."""
        if self.last_started and self.last_started.agent_task_id != started.agent_task_id:
            self.artifacts = ArtifactList()
        self.last_started = started
        self.wait = None
        yield from StopOnKill(started)

    def complete(self, task: AgentTask) -> AgentTask:
        """Return the agent task with what its status lacks and only its stream has reported."""
        result = self.streamed.result
        if result is None and self.submission and self.submission.task_id == task.task_id:
            result = self.submission.result
        return replace(
            task,
            usage=task.usage or self.streamed.usage,
            result=result if task.is_terminal and task.result is None else task.result,
        )

    def count_steps(self, task: AgentTask) -> AgentTask:
        """
        Return the agent task, for a budget, with the steps that only its stream has reported.

        Not part of ``complete``: steps distinguish a question from the next one, and a retry has no stream.
        """
        return task if task.progress else replace(task, progress=self.streamed.progress)

    # --- the record

    def load(self) -> Flow[Submission | None]:
        """Return the record, read once."""
        if self.submission is None:
            found = yield from LoadSubmission()
            if found and found.is_closed:
                return None
            now = yield from ReadClock()
            if found and found.task_id and not 0.0 < found.submitted_at <= now + CLOCK_DIFFERENCE:
                # The start time is lost or damaged: count the limits from now.
                found = replace(found, submitted_at=now)
            self.submission = found
        return self.submission

    def save(self, submission: Submission) -> Flow[None]:
        """Write the record."""
        yield from SaveSubmission(submission)
        self.submission = submission

    def mark(self, **changes: Any) -> Flow[None]:
        """Change fields of the record, if there is one."""
        if submission := (yield from self.load()):
            yield from self.save(replace(submission, **changes))

    def drop(self) -> Flow[None]:
        """Remove the record of a start that started nothing."""
        yield from DropSubmission()
        self.submission = None

    def close(self, started: StartedTask, task: AgentTask) -> Flow[None]:
        """Close the record of an agent task that has ended or was stopped: the next try starts a new one."""
        yield from SaveSubmission(Submission.build_closed(started, task, self.settings.conn_id))
        self.submission = None

    def require_submission(self) -> Flow[Submission]:
        """Return the record; raises AgentTaskError if the store no longer has it."""
        submission = yield from self.load()
        if submission is None:
            raise AgentTaskError(
                f"Airflow's task state store no longer has the record of {self.name}, so its questions "
                f"cannot be tracked. {self.describe_left()}"
            )
        return submission

    def require_questions(self) -> Flow[Questions]:
        """Return the questions of the record; raises AgentTaskError if the store no longer has it."""
        return (yield from self.require_submission()).questions

    def save_questions(self, questions: Questions) -> Flow[None]:
        """Write the questions into the record, and push the answers to XCom."""
        submission = yield from self.require_submission()
        yield from self.save(replace(submission, questions=questions))
        self.wait = None  # the limits and the poll interval have changed
        yield from PushQuestions(questions)

    # --- limits

    @property
    def working_since(self) -> float:
        """When the agent task was submitted or got its last known reply, in seconds since 1970."""
        last_change = self.submission.questions.last_change if self.submission else 0.0
        return max(self.started.started_at, last_change)

    def find_limit(self) -> Flow[tuple[float, str] | None]:
        """
        Return when to give up, in seconds since 1970, and the argument that sets this limit; None for never.

        The time that a question waits for someone's answer is not counted.
        """
        timeout, execution_timeout = self.settings.timeout, self.settings.execution_timeout
        limits = []
        if timeout is not None:
            limits.append((self.started.started_at, timeout, f"timeout of {timeout:g} s"))
        if execution_timeout is not None:
            # Airflow itself restarts the count after each deferral, and does not count in between. A try that
            # waited for a slot could be over before its agent begins, so it counts from there.
            since = max(self.task_try.began_at, self.started.started_at)
            limits.append((since, execution_timeout, f"execution_timeout of {execution_timeout:g} s"))
        if not limits:
            return None
        submission, now = (yield from self.load()), (yield from ReadClock())
        questions = submission.questions if submission else Questions()
        return min(
            (since + seconds + questions.seconds_waited(since, now), name) for since, seconds, name in limits
        )

    def is_over_limit(self) -> Flow[bool]:
        """Return whether it is time to give up."""
        limit = yield from self.find_limit()
        return limit is not None and (yield from ReadClock()) >= limit[0]

    def require_wait(self) -> Flow[TaskWait]:
        """Return the wait policy of the agent task."""
        if self.wait is None:
            limit = yield from self.find_limit()
            self.wait = TaskWait(
                working_since=self.working_since,
                poll_interval=self.settings.poll_interval,
                min_interval=self.settings.min_poll_interval,
                max_interval=self.settings.max_poll_interval,
                deadline=limit[0] if limit else None,
                max_outage=self.settings.max_outage,
                budget=self.settings.budget,
            )
        return self.wait

    # --- giving up

    def is_settled_by(self, task: AgentTask) -> bool:
        """Return whether the agent task's exit code decides how the Airflow task ends, without a retry."""
        return task.exit_code in self.settings.skip_on_exit_code | self.settings.no_retry_on_exit_code

    def leave(self) -> Flow[str]:
        """Leave the agent task running on purpose, even if someone marks its Airflow task later."""
        yield from warn_on_failure(self.mark(on_kill_policy="leave"))
        return "It was left running."

    def describe_left(self, error: AgentTaskError | None = None) -> str:
        """Return what happens to an agent task that keeps running but cannot be polled, as a sentence."""
        if self.task_try.has_next and not (error and error.is_final):
            return "It was left running, and the next try attaches to it."
        return "It was left running, and no try is left to attach to it; clearing the task stops it."
