"""One stay of an Airflow task on a worker: from its start or resume to its end or deferral."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.resume_guard import build_deferral_timeout
from airflow_agent_tasks.airflow_compat.state_store import StartRecords
from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES, has_next_try, read_state
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.lifecycle.submission import StartRecord
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait, Verdict
from airflow_agent_tasks.polling.status_check import StatusWatch
from airflow_agent_tasks.services.start_fields import read_rendered
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger
from airflow_agent_tasks.worker.answer_questions import Conversation
from airflow_agent_tasks.worker.attach_or_submit import AttachOrSubmit
from airflow_agent_tasks.worker.kill import WorkerKill
from airflow_agent_tasks.worker.xcoms import XComNotes

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_agent_tasks.operators.agent_task import AgentTaskOperator


class WorkerLeg:
    """
    What an operator does on a worker with its one agent task.

    :param operator: Whose arguments count.
    :param context: The context of the try.
    """

    def __init__(self, operator: AgentTaskOperator, context: Context) -> None:
        self._operator = operator
        self._context = context
        self._ti: Any = context["ti"]
        self._kill: WorkerKill | None = None
        self._is_killed = False
        self.xcoms = XComNotes(self._ti, is_wanted=operator.do_xcom_push)

    def attach_or_submit(self) -> AgentTask:
        """Take the agent task of an earlier try, or start one; see :class:`AttachOrSubmit`."""
        operator = self._operator
        given = {name: getattr(operator, name) for name in operator.start_field_names}
        start = AttachOrSubmit(
            operator.hook,
            self._context,
            operator.log,
            fields=read_rendered(operator.hook.dialect.start_fields, given),
            agent_id=operator.agent_id,
            # What is started only is meant to run on after its Airflow task.
            on_kill_policy=operator.on_kill_policy if operator.wait_for_completion else "leave",
            on_uncertain_submit=operator.on_uncertain_submit,
            settles=operator.is_settled_by,
        )
        started, task = start.run()
        self.take(started, start.record)
        self.conversation.take_over(start.found, task)
        return task

    def check_still_wanted(self) -> None:
        """
        Stop the agent task if somebody has ended the Airflow task by now.

        A first stay is shorter than a worker's heartbeat: it would defer without having heard of it, and no
        trigger would ever be made that could be killed.
        """
        try:
            state = read_state(self._ti)
        except Exception as error:
            self._operator.log.warning("Airflow did not tell the task's state: %s", error)
            return
        if state in FINAL_STATES and self._operator.on_kill_policy == "stop":
            raise AgentTaskCancelledError(
                f"The task was marked {state} meanwhile. {self.name}: {self.stop()[1]}"
            )

    def recall(self) -> StartedTask | None:
        """Look after the agent task that the state store remembers, and return it, or None."""
        record = StartRecords(self._context).read()
        if record is None or record.task_id is None:
            return None
        started = StartedTask(record.task_id, record.agent_id, record.submitted_at)
        self.take(started, record)
        return started

    def take(self, started: StartedTask, record: StartRecord | None = None) -> None:
        """Look after this agent task from now on: wait for it, and stop it when killed."""
        operator = self._operator
        self._started = started
        self.conversation = Conversation(self, operator, self._context, record)
        self._watch = StatusWatch(started, self._build_wait(), operator.log)
        self._kill = WorkerKill(lambda: operator.hook, started, self._ti, operator.log)
        if self._is_killed:  # while the start was on its way
            self.on_kill()

    @property
    def name(self) -> str:
        """The agent task in sentences."""
        return f"Agent task {self._started.agent_task_id}"

    def check(self, *, retries: bool = False) -> Decision:
        """Ask for the agent task's state once, and decide."""
        decision = self._watch.check(lambda: self._operator.hook, retries=retries)
        if decision.task:
            self.conversation.see(decision.task)
        return decision

    def tell(self, message: str) -> None:
        """Send the agent a message; raises what the hook's ``send_message`` raises."""
        self._operator.hook.send_message(self._started.agent_task_id, message, self._started.agent_id)

    def check_after(self, said: Decision) -> Decision:
        """
        Ask once after a deferral, and decide.

        What the trigger decided stands where nothing newer is known: by this worker's clock the time may not
        be up yet, and waiting again could go round for ever.
        """
        decision = self.check(retries=True)
        is_over = said.verdict in (Verdict.TIMEOUT, Verdict.ERROR) and decision.waits
        is_unseen = said.verdict is Verdict.OUTAGE and decision.task is None
        return said if is_over or is_unseen else decision

    def wait(self, decision: Decision) -> Decision:
        """Wait here, or in the triggerer if deferrable, until the decision is another than to wait."""
        while decision.waits:
            if self._is_killed and self._kill and self._kill.is_undecided:
                self.on_kill()
            if self._kill is None:
                raise AgentTaskCancelledError(f"{self.name} was stopped, because this task was killed.")
            self.xcoms.push_progress(decision.task)
            if self._operator.deferrable:
                self._defer(decision.seconds)
            time.sleep(decision.seconds)
            decision = self.check()
        return decision

    def stop(self) -> tuple[AgentTask | None, str]:
        """
        Stop the agent task.

        :return: How the service describes it then, or None where stopping failed; and what became of it, as
            a sentence. It may have completed just before, and holds a result then.
        """
        started, self._kill = self._started, None
        try:
            task = self._operator.hook.stop_task(started.agent_task_id, started.agent_id)
        except AgentTaskError as error:
            return None, f"Stopping it failed, so it may still be running: {error}"
        if task.status is TaskState.COMPLETED:
            return task, "It had completed just before; the next try takes its result."
        # What was stopped is over: the next try starts anew, also where stopping is no more than a pause.
        self._change_record(lambda records: records.drop())
        return task, f"It was stopped: {task}."

    def leave(self) -> str:
        """Leave the agent task running on purpose, also when its Airflow task is marked later."""
        self._change_record(lambda records: records.leave_running())
        return "It was left running."

    def describe_left(self, error: AgentTaskError | None) -> str:
        """Say what becomes of an agent task that is left running because it cannot be watched."""
        if has_next_try(self._ti) and not (error and error.is_final):
            return "It was left running, and the next try attaches to it."
        return "It was left running, and no try is left to attach to it; clearing the task stops it."

    def _change_record(self, change: Callable[[StartRecords], None]) -> None:
        try:
            change(StartRecords(self._context))
        except AgentTaskError as error:
            self._operator.log.warning("%s", error)

    def on_kill(self) -> None:
        """Stop the agent task if nobody goes on waiting for it; runs in a signal handler."""
        self._is_killed = True
        if self._kill is None:  # not started yet, or stopped already
            return
        if self._operator.on_kill_policy == "leave":
            self._operator.log.warning("%s is left running, as on_kill_policy says.", self.name)
        elif self._kill.run():
            self._kill = None

    def on_execution_timeout(self) -> None:
        """Do what ``on_timeout`` says, once Airflow's ``execution_timeout`` has passed."""
        if self._kill is not None and self._operator.on_timeout == "stop":
            self._operator.log.warning("The execution_timeout of %s passed. %s", self.name, self.stop()[1])
        # Airflow calls on_kill next.
        self._kill = None

    @property
    def limit(self) -> tuple[float, str] | None:
        """
        When to give up, in seconds since 1970, and which argument says so; None for never.

        The time for which a person lets a question wait is not counted.
        """
        limits = []
        if (timeout := self._operator.timeout) is not None:
            since = self._started.started_at
            waited = self.conversation.seconds_waited(since)
            limits.append((since + timeout + waited, f"timeout of {timeout:g} s"))
        if self._operator.execution_timeout is not None:
            # Airflow itself counts it anew after each deferral, and not at all in between.
            seconds, since = self._operator.execution_timeout.total_seconds(), self._ti.start_date.timestamp()
            waited = self.conversation.seconds_waited(since)
            limits.append((since + seconds + waited, f"execution_timeout of {seconds:g} s"))
        return min(limits, default=None)

    def _build_wait(self) -> TaskWait:
        return TaskWait(
            started_at=self._started.started_at,
            poll_interval=self._operator.poll_interval,
            deadline=self.limit[0] if self.limit else None,
            max_outage=self._operator.max_outage,
        )

    def _defer(self, seconds: float) -> None:
        operator = self._operator
        now = time.time()
        deadline = self.limit[0] if self.limit else None
        operator.defer(
            trigger=AgentTaskTrigger(
                conn_id=operator.conn_id,
                **self._started.to_kwargs(),
                poll_interval=operator.poll_interval,
                not_before=now + seconds,
                deadline=deadline,
                max_outage=operator.max_outage,
                notes_progress=operator.do_xcom_push,
                on_kill_policy=operator.on_kill_policy,
            ),
            method_name="execute_complete",
            # Only then has the next stay to read the state store for what is noted of questions.
            kwargs={"is_asked": True} if self.conversation.is_unsettled else None,
            timeout=build_deferral_timeout(deadline, now=now) if deadline else None,
        )
