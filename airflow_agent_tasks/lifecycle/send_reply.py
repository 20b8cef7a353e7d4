"""
Sends a reply to the agent exactly once, although the worker may die at any moment.

Before the request, the record says that the reply is being sent; after the response, that it arrived. If the
worker dies in between, or no response comes, the agent's state shows whether the reply arrived: the agent is
still asking, or it has moved on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn, cast

from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRejectedError, AgentTaskUncertainError
from airflow_agent_tasks.lifecycle.check_status import check
from airflow_agent_tasks.lifecycle.commands import Flow, ReadClock, SendMessage, info, warning
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.question_log import Question, Reply, Stage
from airflow_agent_tasks.lifecycle.wait_policy import Decision
from airflow_agent_tasks.services.base import HAS_ENDED

#: Maximum number of attempts to send a reply that does not seem to arrive.
MAX_ATTEMPTS = 5


def send_reply(execution: Execution) -> Flow[Decision]:
    """
    Send the reply to the newest question, and return the decision of the status check after it.

    :raises AgentTaskError: if the service rejects it, or it does not arrive in several attempts.
    """
    questions = yield from execution.require_questions()
    question = questions.require_last().move(Stage.SENDING, (yield from ReadClock()))
    if question.attempts > MAX_ATTEMPTS:
        yield from _give_up(execution, question)
    yield from save_question(execution, question)
    reply = cast("Reply", question.reply)
    try:
        yield from SendMessage(execution.started, reply.text or "")
    except AgentTaskUncertainError as error:
        yield from warning(
            "The reply to question %s may have arrived; the agent's next state will tell. %s",
            question.number,
            error,
        )
    except AgentTaskError as error:
        return (yield from _on_refusal(execution, question, error))
    else:
        yield from save_question(execution, question.move(Stage.SENT, (yield from ReadClock())))
        yield from info("Sent the reply from %s to question %s.", reply.answered_by["name"], question.number)
    return (yield from check(execution))


def save_question(execution: Execution, question: Question) -> Flow[None]:
    """Record what happened to the newest question."""
    questions = yield from execution.require_questions()
    yield from execution.save_questions(questions.put(question))


def _on_refusal(execution: Execution, question: Question, error: AgentTaskError) -> Flow[Decision]:
    # The service certainly did not accept it: the next check that sees this question sends it again.
    yield from save_question(execution, question.move(Stage.ANSWERED, (yield from ReadClock())))
    decision = yield from check(execution, retries=True)
    has_gone_on = decision.task is not None and not question.is_of(decision.task)
    is_late = isinstance(error, AgentTaskRejectedError) and error.status in HAS_ENDED and has_gone_on
    if not (error.is_transient or is_late):
        raise error
    yield from warning("The service did not accept the reply to question %s. %s", question.number, error)
    return decision


def _give_up(execution: Execution, question: Question) -> Flow[NoReturn]:
    # The next try counts its attempts from zero.
    yield from save_question(execution, replace(question, stage=Stage.ANSWERED, attempts=0))
    raise AgentTaskError(
        f"The reply to question {question.number} of {execution.name} did not arrive in {MAX_ATTEMPTS} "
        f"attempts. {execution.describe_left()}"
    )
