"""Cases in which an agent asks a question, and something breaks before the answer has reached it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab.cluster.airflow_api import AirflowApiError
from lab.cluster.installed_airflow import IS_3_4_PLUS
from lab.faults.case_definition import Expected, Steps, scenario
from lab.faults.cases.users import mark, measure_stop
from lab.faults.our_case_run import OurCaseRun, list_messages

QUESTION = "Red or blue?"
ANSWER = "Blue."
#: The start of a status check, and of a message to a remote task.
STATUS = "GET /agent/"
MESSAGE = r"POST \S+/messages? "
#: The operator's log line when it sends an answer again.
SENT_AGAIN = "the agent is still asking: sending the reply again"


def finish(run: OurCaseRun, *answers: str, tries: int = 0) -> Steps:
    """Wait for the Airflow task's end, and check that its XCom holds exactly these answers."""
    yield from run.until_ended(tries=tries)
    answered = run.cluster.api.read_xcoms(run.task, ["answers"]).get("answers", [])
    seen = [(answer["reply"], answer["sent"]) for answer in answered]
    run.check(seen == [(answer, True) for answer in answers], f"the XCom holds other answers: {seen}")


def lose_worker_at(
    *requests: str, is_passed_on: bool = False, is_received: bool = False
) -> Callable[[OurCaseRun], Steps]:
    """
    Return a drive that kills the worker that has the answer, during the last of these requests.

    :param requests: The starts of the requests.
    :param is_passed_on: True if the service receives the last one, and only its response is held.
    :param is_received: True if the agent receives the answer before the worker is killed.
    """

    def drive(run: OurCaseRun) -> Steps:
        run.start()
        form = yield from run.until_asked()
        (run.proxy.hold_responses if is_passed_on else run.proxy.hold_requests)(*requests)
        run.answer(form, ANSWER)
        yield from run.until(lambda: run.proxy.is_holding, "the worker sent the request")
        if is_received:
            yield from run.until(lambda: list_messages(run.remote_tasks), "the agent received the answer")
        run.check(bool(list_messages(run.remote_tasks)) is is_received, "the agent received it too early")
        run.kill_worker()
        run.proxy.open()
        yield from finish(run, ANSWER, tries=2)

    return drive


def lose_answer_on_the_way(run: OurCaseRun) -> Steps:
    """Kill the worker while it sends the answer, and lose the request."""
    yield from lose_worker_at(MESSAGE)(run)
    run.check(SENT_AGAIN in run.read_logs(), "the log does not say that the answer was sent again")


def cut_the_answer(run: OurCaseRun) -> Steps:
    """Cut the connection after the service has received the answer."""
    run.sandbox.faults([{"method": "POST", "path": "/messages?$", "drop": "after"}])
    run.start()
    form = yield from run.until_asked()
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER)


def answer_at_once(run: OurCaseRun) -> Steps:
    """Answer the moment the task is parked, while Airflow still counts its worker as running."""
    run.start()
    form = yield from run.until_asked(at_once=True)
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER)


def answer_between_tries(run: OurCaseRun) -> Steps:
    """
    Kill the worker that checks whether the question is still open, and answer before the next try.

    Since Airflow 3.4 a form belongs to one try: Airflow rejects this answer, and the next try shows it again.
    """
    run.start()
    form = yield from run.until_asked()
    run.proxy.hold_requests(STATUS)
    yield from run.until(lambda: run.proxy.is_holding, "a worker checked")
    run.kill_worker()
    run.proxy.open()
    yield from run.until(lambda: run.task.state == "up_for_retry", "Airflow noticed the lost worker")
    if IS_3_4_PLUS:
        run.check(is_refused(run, form, 404), "Airflow still knew the form of a lost try")
        form = yield from run.until_asked()
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER, tries=2)


def is_refused(run: OurCaseRun, form: dict[str, Any], status: int) -> bool:
    """Answer, and return True if the API server refuses it with this status."""
    try:
        run.answer(form, ANSWER)
    except AirflowApiError as error:
        return f"answered {status} " in str(error)
    return False


def mark_the_dag_run(run: OurCaseRun) -> Steps:
    """Mark the DAG run as failed while its task is parked."""
    yield from run.start_and_wait()
    yield from measure_stop(run, run.mark_dag_run("failed"))


def let_the_dag_run_time_out(run: OurCaseRun) -> Steps:
    """Let the DAG run time out while its task is parked."""
    yield from run.start_and_wait()
    yield from run.until_stopped()
    yield from run.until_ended()


def answer_elsewhere(run: OurCaseRun) -> Steps:
    """Answer on the service; then answer the same question in Airflow once the next one is asked."""
    run.start()
    first = yield from run.until_asked(1)
    run.message_remote_task("Red.")
    second = yield from run.until_asked(2)
    run.check(is_refused(run, first, 409), "an answer to an earlier question was taken")
    run.answer(second, "Yes.")
    yield from finish(run, "Yes.")


def answer_after(run: OurCaseRun, form: dict[str, Any]) -> Steps:
    """Answer with a form from before Airflow went down, as soon as Airflow can be reached."""
    yield from run.until(run.cluster.api.read_health, "the API server answers")
    run.answer(form, ANSWER)
    yield from finish(run, ANSWER)


RECEIVED_ONCE = Expected(asked=1, received=(ANSWER,))
RECEIVED_IN_RETRY = Expected(tries=2, asked=1, received=(ANSWER,))
STOPPED = Expected(stopped=1, state="failed", asked=1, results=0)

#: A remote task that asks at once and ends once it has the answer.
ASKING: Mapping[str, Any] = {"seconds": 0.0, "ask": (QUESTION,)}
THROUGH_FAULT_PROXY: Mapping[str, Any] = {**ASKING, "uses_fault_proxy": True}
QUESTION_SCENARIOS = (
    scenario(
        lose_answer_on_the_way,
        "answer_lost_on_the_way",
        "worker killed, and the answer it sends is lost",
        "lightcone",
        RECEIVED_IN_RETRY,
        **THROUGH_FAULT_PROXY,
    ),
    scenario(
        lose_worker_at(STATUS),
        "answer_lost_before_sending",
        "worker killed before it sends the answer",
        "shinzo",
        RECEIVED_IN_RETRY,
        **THROUGH_FAULT_PROXY,
    ),
    scenario(
        lose_worker_at(MESSAGE, is_passed_on=True, is_received=True),
        "answer_lost_in_reply",
        "worker killed just after the agent received the answer",
        "shinzo",
        RECEIVED_IN_RETRY,
        **THROUGH_FAULT_PROXY,
    ),
    scenario(
        lose_worker_at(MESSAGE, STATUS, is_received=True),
        "answer_lost_after_sending",
        "worker killed after it sent the answer",
        "lightcone",
        RECEIVED_IN_RETRY,
        **THROUGH_FAULT_PROXY,
    ),
    scenario(
        answer_between_tries,
        "answered_between_tries",
        "worker killed while it checks the question, then answered",
        "lightcone",
        RECEIVED_IN_RETRY,
        # Leaves time to answer before the next try begins: a busy SQLite may delay a state by seconds.
        retry_delay=20.0,
        arguments={"input_recheck_interval": 3},
        **THROUGH_FAULT_PROXY,
    ),
    scenario(
        answer_at_once,
        "answered_at_once",
        "answered the moment it is parked",
        "shinzo",
        RECEIVED_ONCE,
        **ASKING,
    ),
    scenario(
        cut_the_answer,
        "answer_cut",
        "answer's connection cut after the agent received it",
        "lightcone",
        RECEIVED_ONCE,
        **ASKING,
    ),
    scenario(
        answer_elsewhere,
        "answered_elsewhere",
        "answered on the service; a late answer to that question",
        "shinzo",
        Expected(asked=2, received=("Red.", "Yes.")),
        seconds=0.0,
        ask=(QUESTION, "May I delete the old ones?"),
        arguments={"input_recheck_interval": 3},
    ),
    scenario(
        let_the_dag_run_time_out,
        "run_timeout_parked",
        "DAG run's timeout while parked at a question",
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
)
