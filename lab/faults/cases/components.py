"""Cases in which a part of Airflow breaks; they run one after the other."""

from __future__ import annotations

import re
import signal

from lab.cluster.sqlite_lock import freeze
from lab.faults.case_definition import LONG, ON_WORKER, Case, Expected, Scenario, Steps
from lab.faults.case_run import CaseRun
from lab.faults.cases.callbacks import CALLED_BACK, check_wakes
from lab.faults.cases.questions import ASKING, RECEIVED_ONCE, answer_after
from lab.faults.cases.users import mark_and_measure
from lab.faults.our_case_run import OurCaseRun
from lab.faults.peer_case_run import PeerCaseRun

#: Airflow's line in the trigger's log when a triggerer loses a trigger; the second one since 3.4.
CANCELLED_TRIGGER = re.compile("Trigger cancelled by user action|Trigger reassigned to another triggerer")
#: Seconds to watch a triggerer after it has been resumed.
WATCH_SECONDS = 6.0


def start_all(*runs: CaseRun) -> Steps:
    """Start several DAG runs at the same time, and wait until Airflow waits for each remote task."""
    for run in runs:
        run.start()
    for run in runs:
        yield from run.until_waited_for()


def kill_the_triggerer(
    taken_over: OurCaseRun, called_back: OurCaseRun, expiring: OurCaseRun, untaken: OurCaseRun
) -> Steps:
    """SIGKILL the only triggerer, let one deferral time out, then start another triggerer."""
    yield from start_all(taken_over, called_back)
    expiring.start()
    yield from expiring.until_deferred()
    cluster = taken_over.cluster
    cluster.stop_program("triggerer", grace=0)
    untaken.start()
    yield from untaken.until_deferred()
    yield from mark_and_measure(untaken, "failed")
    yield from expiring.until_stopped()
    yield from expiring.until_ended()
    yield from called_back.until_ended()
    cluster.start_component("triggerer")
    yield from taken_over.until_ended()


def freeze_a_triggerer(run: OurCaseRun, called_back: OurCaseRun, *peers: PeerCaseRun) -> Steps:
    """
    Freeze the waiting triggerer, let another take over, resume the first, and watch it.

    While it is frozen, a call wakes a task, which finds its agent task still running and defers again.
    """
    runs: tuple[CaseRun, ...] = (run, called_back, *peers)
    yield from start_all(*runs)
    frozen = run.cluster.programs["triggerer"]
    first = run.task.triggerer_id
    try:
        if path := run.cluster.sqlite_path:
            yield from freeze(frozen, path)
        else:
            frozen.send_signal(signal.SIGSTOP)
        called_back.call_back()
        run.cluster.start_component("triggerer", name="triggerer-2")
        yield from run.until(lambda: run.task.triggerer_id != first, "another triggerer took over")
        asked = len(run.list_requests("GET"))
        yield from run.until(lambda: len(run.list_requests("GET")) > asked, "it checked the state")
        yield from called_back.until(
            lambda: called_back.is_waited_for and called_back.list_requests("GET"), "it has the new trigger"
        )
    finally:
        frozen.send_signal(signal.SIGCONT)
    yield from run.until(
        lambda: all(CANCELLED_TRIGGER.search(each.read_logs("*.trigger.*")) for each in runs),
        "the first one noticed",
    )
    yield from run.pause(WATCH_SECONDS)
    for each in runs:
        yield from each.until_ended()
    check_wakes(called_back, 2, 3)
    run.cluster.stop_program("triggerer")


def restart_the_api_servers(
    deferred: OurCaseRun, on_worker: OurCaseRun, parked: OurCaseRun, called_back: OurCaseRun
) -> Steps:
    """
    Restart both API servers: the one for the UI and the one for workers.

    The first one loses a call with which it was about to wake a task that had just deferred.
    """
    parked.start()
    form = yield from parked.until_asked()
    yield from start_all(deferred, on_worker)
    called_back.start()
    yield from called_back.until_deferred()
    cluster = deferred.cluster
    for name in cluster.api_servers:
        cluster.stop_program(name)
    for name in cluster.api_servers:
        cluster.start_component(name)
    yield from answer_after(parked, form)
    for run in (deferred, on_worker, called_back):
        yield from run.until_ended()
    check_wakes(called_back, 0)


#: Seconds for which all of Airflow is down.
AWAY_SECONDS = 60.0


def stop_the_machine(deferred: OurCaseRun, on_worker: OurCaseRun, parked: OurCaseRun) -> Steps:
    """SIGKILL all of Airflow at once, and start it again after a minute."""
    parked.start()
    form = yield from parked.until_asked()
    yield from start_all(deferred, on_worker)
    cluster = deferred.cluster
    cluster.stop(grace=0)
    yield from deferred.pause(AWAY_SECONDS)
    for component in cluster.components:
        cluster.start_component(component)
    yield from answer_after(parked, form)
    yield from deferred.until_ended()
    yield from on_worker.until_ended()


COMPONENT_SCENARIOS = (
    Scenario(
        kill_the_triggerer,
        (
            Case(
                "triggerer_killed",
                "the only triggerer killed, another started",
                "lightcone",
                seconds=60.0,
            ),
            Case(
                "callback_without_triggerer",
                "called back, no triggerer lives",
                "shinzo",
                seconds=30.0,
                arguments=CALLED_BACK,
            ),
            Case(
                "timeout_without_triggerer",
                "timeout passes, no triggerer lives (backstop)",
                "shinzo",
                Expected(stopped=1, state="failed", results=0),
                seconds=LONG,
                retries=0,
                arguments={"timeout": 8},
            ),
            Case(
                "failed_without_triggerer",
                "marked failed while deferred, no triggerer lives",
                "lightcone",
                Expected(stopped=1, state="failed", results=0),
                seconds=LONG,
            ),
        ),
    ),
    Scenario(
        freeze_a_triggerer,
        (
            Case(
                "triggerer_frozen",
                "a triggerer frozen, another takes over, then it wakes",
                "shinzo",
                seconds=40.0,
            ),
            Case(
                "callback_triggerer_frozen",
                "called back while its triggerer is frozen, defers again, then that one wakes",
                "shinzo",
                seconds=40.0,
                arguments=CALLED_BACK,
            ),
            Case(
                "triggerer_frozen_peer",
                "the same with the trigger of apache-airflow-providers-anthropic",
                "anthropic",
                is_comparison=True,
                seconds=40.0,
            ),
        ),
    ),
    Scenario(
        restart_the_api_servers,
        (
            Case("api_restart_deferred", "API servers restarted; deferred", "lightcone", seconds=25.0),
            Case(
                "api_restart_on_worker",
                "API servers restarted; waiting on a worker",
                "shinzo",
                # With this short heartbeat timeout, Airflow may count the worker as lost.
                Expected(tries=None),
                seconds=25.0,
                arguments=ON_WORKER,
            ),
            Case(
                "api_restart_parked",
                "API servers restarted; parked at a question",
                "lightcone",
                RECEIVED_ONCE,
                **ASKING,
            ),
            Case(
                "api_restart_callback",
                "API servers restarted between a callback and the resume",
                "shinzo",
                seconds=0.0,
                # The first status check comes after the restart, and no worker makes one before.
                arguments={**CALLED_BACK, "poll_interval": 10},
                script={"callbacks": "early"},
            ),
        ),
    ),
    Scenario(
        stop_the_machine,
        (
            # This one ends while Airflow is down, the other afterwards.
            Case(
                "machine_stopped_deferred", "all of Airflow killed for 60 s; deferred", "shinzo", seconds=40.0
            ),
            Case(
                "machine_stopped_on_worker",
                "all of Airflow killed for 60 s; waiting on a worker",
                "lightcone",
                Expected(tries=2),
                seconds=90.0,
                arguments=ON_WORKER,
            ),
            Case(
                "machine_stopped_parked",
                "all of Airflow killed for 60 s; parked at a question",
                "shinzo",
                RECEIVED_ONCE,
                **ASKING,
            ),
        ),
    ),
)
