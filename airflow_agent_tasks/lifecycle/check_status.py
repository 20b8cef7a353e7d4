"""One status check of the agent task: get it, log any change, settle the open question, decide."""

from __future__ import annotations

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.commands import (
    CloseForm,
    Flow,
    GetTask,
    Log,
    PushTask,
    ReadClock,
    ReadFinalState,
    info,
    warning,
)
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.question_log import Stage
from airflow_agent_tasks.lifecycle.state_log import LogLine
from airflow_agent_tasks.lifecycle.stop import stop
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict


def check(execution: Execution, *, retries: bool = False) -> Flow[Decision]:
    """
    Get the agent task once, and decide.

    :param retries: Repeat the request if it fails. If the connection cannot be read, that counts as a failed
        check like any other.
    """
    wait = yield from execution.require_wait()
    try:
        task = execution.complete((yield from GetTask(execution.started, retries=retries)))
    except AgentTaskError as error:
        if execution.last_task:  # the start's response, which is pushed only now
            yield from PushTask(execution.last_task)
        now = yield from ReadClock()
        yield from _log(execution.state_log.on_failure(error, now=now))
        return wait.on_error(error, now=now)
    execution.last_task = task
    now, since = (yield from ReadClock()), execution.started.started_at
    yield from _log(execution.state_log.on_state(task, now=now, submitted_at=since))
    yield from PushTask(task)
    yield from _settle_question(execution, task)
    # Built again, because settling a question changes the poll interval.
    wait = yield from execution.require_wait()
    return wait.on_state(task, now=(yield from ReadClock()), used=execution.count_steps(task))


def check_after(execution: Execution, reported: Decision) -> Flow[Decision]:
    """
    Get the agent task once after a deferral, and decide.

    The trigger's decision stands unless the check finds something newer: by this worker's clock the time may
    not be up yet, and waiting again could repeat forever.
    """
    decision = yield from check(execution, retries=True)
    is_over = reported.verdict in (Verdict.TIMEOUT, Verdict.ERROR, Verdict.BUDGET) and decision.waits
    is_unseen = reported.verdict is Verdict.OUTAGE and decision.task is None
    # The trigger has stopped it, and a service may report no usage after that.
    is_cancelled = decision.task is not None and decision.task.status is TaskState.CANCELLED
    is_stopped = reported.verdict is Verdict.BUDGET and is_cancelled
    return reported if is_over or is_unseen or is_stopped else decision


def stop_unwanted(execution: Execution) -> Flow[None]:
    """
    After Airflow has refused a deferral, stop the agent task if someone has given its task a final state.

    The worker would learn of this only at its first heartbeat, and the first execution may end before that.
    Airflow never creates the trigger whose ``on_kill`` could stop the agent task.
    """
    state = yield from ReadFinalState()
    if state and execution.settings.on_kill_policy == "stop":
        fate = (yield from stop(execution))[1]
        yield from warning("Someone marked the task %s. %s: %s", state, execution.name, fate)


def _log(line: LogLine | None) -> Flow[None]:
    if line:
        yield from Log(line.level, "%s", (line.text,))


def _settle_question(execution: Execution, task: AgentTask) -> Flow[None]:
    """Record what happened to the newest question, once the agent has moved on from it."""
    before = execution.submission.questions if execution.submission else None
    if before is None or before.last is None:
        return
    questions = before.settle(task, (yield from ReadClock()))
    if questions is before:
        return
    number, stage = before.last.number, before.last.stage
    if stage is Stage.ASKED:
        # Closed first: if the worker is lost in between, the next try must close it too.
        yield from CloseForm()
    yield from execution.save_questions(questions)
    if stage is Stage.ASKED:
        yield from info("Question %s was answered on the service or withdrawn: %s", number, task)
    elif stage is Stage.ANSWERED:
        yield from warning(
            "Did not send the reply to question %s, because the agent no longer asks it. %s", number, task
        )
    else:
        yield from info("The agent received the reply to question %s: %s", number, task)
