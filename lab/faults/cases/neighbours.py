"""Cases in which other services or callers fail or interfere; they run one after the other."""

from __future__ import annotations

import time

from lab.cluster.airflow_api import build_answer_path
from lab.faults.case_definition import Case, Expected, Scenario, Steps, scenario
from lab.faults.cases.questions import ANSWER, ASKING, RECEIVED_ONCE, STOPPED, finish
from lab.faults.cases.users import mark_and_measure
from lab.faults.our_case_run import OurCaseRun
from lab.faults.strangers import Strangers

#: Airflow tasks on the silent service: more than the threads that stop agent tasks on one connection.
SILENT_TASKS = 5
STRANGERS = 400
#: Seconds within which Airflow must store an answer despite the strangers.
ANSWER_LIMIT = 15.0


def stop_beside_a_silent_service(healthy: OurCaseRun, silent: OurCaseRun) -> Steps:
    """Mark tasks parked at questions as failed, beginning with those of a service that does not respond."""
    healthy.start()
    for _ in range(SILENT_TASKS):
        silent.start()
    api = healthy.cluster.api
    yield from silent.until(
        lambda: count_parked(silent) == SILENT_TASKS, "all tasks of the silent service are parked"
    )
    yield from healthy.until_waited_for()
    silent.proxy.never_respond()
    for task in api.list_tasks(silent.case.dag_id, "~"):
        api.mark(task, "failed")
    yield from mark_and_measure(healthy, "failed")
    yield from silent.until_ended()


def count_parked(run: OurCaseRun) -> int:
    """Return how many tasks of a case's DAG runs await an answer."""
    tasks = run.cluster.api.list_tasks(run.case.dag_id, "~")
    return sum(task.state == "awaiting_input" for task in tasks)


def answer_among_strangers(run: OurCaseRun) -> Steps:
    """Answer as soon as the task is parked, while strangers send answers to the same task."""
    run.start()
    form = yield from run.until_asked(at_once=True)
    url = f"{run.cluster.api.base_url}/api/v2{build_answer_path(form)}"
    with Strangers(url, {"chosen_options": ["Send"]}, STRANGERS) as strangers:
        yield from run.until(lambda: strangers.statuses.total(), "the strangers have sent answers")
        began = time.monotonic()
        run.answer(form, ANSWER)
        seconds = time.monotonic() - began
        run.measure("answered in", seconds)
        run.check(seconds <= ANSWER_LIMIT, f"answered in {seconds:.1f} s, not within {ANSWER_LIMIT} s")
        yield from finish(run, ANSWER)
    run.check(set(strangers.statuses) <= {401, 403}, f"strangers got {dict(strangers.statuses)}")


NEIGHBOUR_SCENARIOS = (
    Scenario(
        stop_beside_a_silent_service,
        (
            Case(
                "failed_beside_silent",
                "marked failed while another service does not answer",
                "shinzo",
                STOPPED,
                **ASKING,
            ),
            Case(
                "failed_while_silent",
                "five tasks marked failed while their service does not answer",
                "lightcone",
                Expected(SILENT_TASKS, 0, SILENT_TASKS, "failed", asked=SILENT_TASKS, results=0),
                uses_fault_proxy=True,
                **ASKING,
            ),
        ),
    ),
    scenario(
        answer_among_strangers,
        "answered_among_strangers",
        "answered the moment it is parked, while 400 strangers answer too",
        "shinzo",
        RECEIVED_ONCE,
        **ASKING,
    ),
)
