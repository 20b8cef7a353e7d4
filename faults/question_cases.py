"""Cases in which an agent asks, and something breaks before a person's answer has reached it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from case import Expected, Steps, scenario
from case_run import CaseRun, list_messages
from user_cases import mark, measure_stop

QUESTION = "Red or blue?"
ANSWER = "Blue."
#: The beginnings of requests: for the state of a remote task, and with a message for one.
STATUS = "GET /agent/"
MESSAGE = r"POST \S+/messages? "
#: What the operator writes when it sends an answer again.
SENT_AGAIN = "the agent still asks: sending it again"
#: What the form says about an answer that was given back.
GIVEN_BACK = "it was given in a form that showed an earlier question"


def finish(run: CaseRun, *answers: str, tries: int = 0) -> Steps:
    """Wait for the Airflow task's end, and see whether XCom tells of just these answers."""
    yield from run.until_ended(tries=tries)
    told = run.cluster.api.read_xcoms(run.task, ["answers"]).get("answers", [])
    seen = [(answer["reply"], answer["sent"]) for answer in told]
    run.check(seen == [(answer, True) for answer in answers], f"XCom tells of other answers: {seen}")


def lose_worker_at(
    *requests: str, is_passed_on: bool = False, has_heard: bool = False
) -> Callable[[CaseRun], Steps]:
    """
    Return a drive that kills the worker which has the answer, in the last of these requests.

    :param requests: What they begin with.
    :param is_passed_on: True where the service gets this request, and only its reply is held.
    :param has_heard: True where the agent hears the answer before the worker is killed.
    """

    def drive(run: CaseRun) -> Steps:
        run.start()
        form = yield from run.until_asked()
        (run.relay.hold_replies if is_passed_on else run.relay.hold_requests)(*requests)
        run.answer(form, ANSWER)
        yield from run.until(lambda: run.relay.is_holding, "the worker sent the request")
        if has_heard:
            yield from run.until(lambda: list_messages(run.remote_tasks), "the agent heard the answer")
        run.check(bool(list_messages(run.remote_tasks)) is has_heard, "the agent heard it too early")
        run.kill_worker()
        run.relay.open()
        yield from finish(run, ANSWER, tries=2)

    return drive


def lose_answer_on_the_way(run: CaseRun) -> Steps:
    """Kill the worker while the answer is on the way, and let it get lost."""
    yield from lose_worker_at(MESSAGE)(run)
    run.check(SENT_AGAIN in run.read_logs(), "the log does not say that the answer was sent again")


def cut_the_answer(run: CaseRun) -> Steps:
    """Cut the connection when the service has taken the answer."""
    run.sandbox.faults([{"method": "POST", "path": "/messages?$", "drop": "after"}])
    run.start()
    form = yield from run.until_asked()
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER)


def answer_at_once(run: CaseRun) -> Steps:
    """Answer in the moment at which the task is parked, when Airflow takes its worker for a running one."""
    run.start()
    form = yield from run.until_asked(at_once=True)
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER)


def answer_between_tries(run: CaseRun) -> Steps:
    """Kill the worker that looks whether the question still stands, and answer before the next try."""
    run.start()
    form = yield from run.until_asked()
    run.relay.hold_requests(STATUS)
    yield from run.until(lambda: run.relay.is_holding, "a worker looked")
    run.kill_worker()
    run.relay.open()
    yield from run.until(lambda: run.task.state == "up_for_retry", "Airflow missed the worker")
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER, tries=2)


def mark_the_dag_run(run: CaseRun) -> Steps:
    """Mark the DAG run as failed while its task is parked."""
    yield from run.start_and_wait()
    yield from measure_stop(run, run.mark_dag_run("failed"))


def let_the_dag_run_time_out(run: CaseRun) -> Steps:
    """Let the DAG run's time pass while its task is parked."""
    yield from run.start_and_wait()
    yield from run.until_stopped()
    yield from run.until_ended()


def clear_while_parked(run: CaseRun) -> Steps:
    """Clear the Airflow task while it is parked, and answer what the new remote task asks."""
    run.start()
    yield from run.until_asked()
    run.clear()
    yield from run.until(lambda: len(run.remote_tasks) == 2, "a new remote task was started")
    form = yield from run.until_asked()
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER, tries=2)
    old, new = run.remote_tasks
    run.check(list_messages([new]) == [ANSWER], f"the answer went to the old task: {list_messages([old])}")


def answer_elsewhere(run: CaseRun) -> Steps:
    """Answer on the service; then a person answers the same question when the next one is asked."""
    run.start()
    first = yield from run.until_asked(1)
    run.tell_remote_task("Red.")
    yield from run.until_asked(2)
    run.answer(first, ANSWER)
    second = yield from run.until_asked(2, words=GIVEN_BACK)
    run.answer(second, "Yes.")
    yield from finish(run, "Yes.")


def answer_after(run: CaseRun, form: dict[str, Any]) -> Steps:
    """Answer as soon as Airflow can be reached, after it was away, on a page that was opened before."""
    yield from run.until(run.cluster.api.read_health, "the API server answers")
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER)


HEARD_ONCE = Expected(asked=1, heard=(ANSWER,))
HEARD_BY_RETRY = Expected(tries=2, asked=1, heard=(ANSWER,))
STOPPED = Expected(stopped=1, state="failed", asked=1, results=0)

#: A remote task that asks at once, and ends when it has its answer.
ASKING: Mapping[str, Any] = {"seconds": 0.0, "ask": (QUESTION,)}
RELAYED: Mapping[str, Any] = {**ASKING, "is_relayed": True}
QUESTION_SCENARIOS = (
    scenario(
        lose_answer_on_the_way,
        "answer_lost_on_the_way",
        "worker killed, and the answer it sends is lost",
        "lightcone",
        HEARD_BY_RETRY,
        **RELAYED,
    ),
    scenario(
        lose_worker_at(STATUS),
        "answer_lost_before_sending",
        "worker killed before it sends the answer",
        "shinzo",
        HEARD_BY_RETRY,
        **RELAYED,
    ),
    scenario(
        lose_worker_at(MESSAGE, is_passed_on=True, has_heard=True),
        "answer_lost_in_reply",
        "worker killed when the agent has just heard the answer",
        "shinzo",
        HEARD_BY_RETRY,
        **RELAYED,
    ),
    scenario(
        lose_worker_at(MESSAGE, STATUS, has_heard=True),
        "answer_lost_after_sending",
        "worker killed after it has sent the answer",
        "lightcone",
        HEARD_BY_RETRY,
        **RELAYED,
    ),
    scenario(
        answer_between_tries,
        "answered_between_tries",
        "worker killed while it looks after the question, then answered",
        "lightcone",
        HEARD_BY_RETRY,
        # Time for the person, before the next try begins: a busy SQLite may hide a state for seconds.
        arguments={"input_recheck_interval": 3, "retry_delay": 20},
        **RELAYED,
    ),
    scenario(
        answer_at_once,
        "answered_at_once",
        "answered in the moment at which it is parked",
        "shinzo",
        HEARD_ONCE,
        **ASKING,
    ),
    scenario(
        cut_the_answer,
        "answer_cut",
        "answer's connection cut after the agent heard it",
        "lightcone",
        HEARD_ONCE,
        **ASKING,
    ),
    scenario(
        answer_elsewhere,
        "answered_elsewhere",
        "answered on the service; a late answer to that question",
        "shinzo",
        Expected(asked=2, heard=("Red.", "Yes.")),
        seconds=0.0,
        ask=(QUESTION, "May I delete the old ones?"),
        arguments={"input_recheck_interval": 3},
    ),
    scenario(
        let_the_dag_run_time_out,
        "run_timeout_parked",
        "DAG run's time-out while parked at a question",
        "shinzo",
        Expected(stopped=1, state="skipped", asked=1, results=0),
        run_timeout=45.0,
        **ASKING,
    ),
    scenario(
        mark_the_dag_run,
        "run_failed_parked",
        "DAG run marked failed while parked at a question",
        "lightcone",
        STOPPED,
        **ASKING,
    ),
    scenario(
        mark("failed"),
        "failed_parked",
        "marked failed while parked at a question",
        "shinzo",
        STOPPED,
        **ASKING,
    ),
    scenario(
        mark("success"),
        "success_parked",
        "marked success while parked at a question",
        "lightcone",
        Expected(stopped=1, asked=1, results=0),
        **ASKING,
    ),
    scenario(
        clear_while_parked,
        "cleared_parked",
        "cleared while parked at a question",
        "lightcone",
        Expected(started=2, stopped=1, tries=2, asked=2, heard=(ANSWER,)),
        **ASKING,
    ),
)
