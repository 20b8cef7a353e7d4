"""The lives that are lived in the simulated world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from airflow_agent_tasks.agent_task import TaskState
from tests.service_samples import LIGHTCONE, SHINZO
from tests.simulated.script import Failure, Script
from tests.task_settings import CALLBACK_POLL_INTERVAL

FAILED, COMPLETED = TaskState.FAILED, TaskState.COMPLETED
THREE = ("Which one?", "What colour?", "Sure?")
PROGRAM = {"has_reply": True, "on_awaiting_input": "fail"}
STREAM = {"stream": True}

#: Lives on either service, waiting on the worker and in the triggerer.
COMMON: dict[str, Script] = {
    "plain": Script(LIGHTCONE),
    "plain, late retry": Script(LIGHTCONE, downtime=400.0),
    "answered by a program": Script(LIGHTCONE, PROGRAM, questions=THREE),
    "answered by a program, late retry": Script(LIGHTCONE, PROGRAM, questions=THREE, downtime=400.0),
    "answered by someone": Script(LIGHTCONE, questions=THREE),
    "answered by someone, late retry": Script(LIGHTCONE, questions=THREE, downtime=400.0),
    "answered by someone, no plugin": Script(LIGHTCONE, questions=THREE[:1], has_plugin=False),
    "answered by someone who was notified": Script(LIGHTCONE, {"has_notifiers": True}, questions=THREE[:2]),
    "answered by someone, a form for each try": Script(LIGHTCONE, questions=THREE, has_form_per_try=True),
    "answered by someone who was notified, a form for each try": Script(
        LIGHTCONE, {"has_notifiers": True}, questions=THREE[:2], has_form_per_try=True
    ),
    "stopped by someone, a form for each try": Script(
        LIGHTCONE, questions=THREE[:2], people="stops", has_form_per_try=True, end="failed"
    ),
    "stopped by someone": Script(LIGHTCONE, questions=THREE[:2], people="stops", end="failed"),
    "answered by default": Script(
        LIGHTCONE, {"input_timeout": 60.0, "input_default": "x"}, questions=THREE[:1], people="silent"
    ),
    "nobody answers": Script(
        LIGHTCONE, {"input_timeout": 60.0}, questions=THREE[:1], people="silent", retries=2, end="failed"
    ),
    "must not ask": Script(
        LIGHTCONE, {"on_awaiting_input": "fail"}, questions=THREE[:1], retries=2, end="failed"
    ),
    "returns the question": Script(LIGHTCONE, {"on_awaiting_input": "return"}, questions=THREE[:1]),
    "fails, then completes": Script(LIGHTCONE, ends=(FAILED, COMPLETED)),
    "timeout": Script(LIGHTCONE, {"timeout": 5.0}, work=100.0, retries=2, end="failed"),
    "timeout, left": Script(
        LIGHTCONE, {"timeout": 5.0, "on_timeout": "leave"}, work=100.0, end="failed", retries=0
    ),
    "short outage": Script(LIGHTCONE, outage=(3.0, 200.0), downtime=60.0),
    "long outage": Script(LIGHTCONE, {"max_outage": 60.0}, outage=(3.0, 200.0), downtime=60.0),
    "no retries": Script(LIGHTCONE, retries=0),
    "waits for a slot": Script(LIGHTCONE, full=2),
    "fails, and waits for a slot": Script(LIGHTCONE, ends=(FAILED, COMPLETED), full=1),
    "a large result": Script(LIGHTCONE, {"max_xcom_bytes": 8, "artifacts_path": "files:"}),
    "object storage fails once": Script(
        LIGHTCONE, {"max_xcom_bytes": 8, "artifacts_path": "files:"}, failures=(Failure("KeepFile"),)
    ),
    "a large result and no path": Script(LIGHTCONE, {"max_xcom_bytes": 8}, retries=2, end="failed"),
    "completes while it is stopped": Script(
        LIGHTCONE, {"timeout": 5.0}, work=11.2, retries=2, end="failed", other_end="success"
    ),
    "no triggerer": Script(
        LIGHTCONE, {"timeout": 5.0}, work=100.0, retries=2, has_triggerer=False, end="failed"
    ),
    "the service cannot stop once": Script(
        LIGHTCONE, {"timeout": 5.0}, work=100.0, retries=3, failures=(Failure("StopTask"),), end="failed"
    ),
    "the store cannot be written once": Script(LIGHTCONE, failures=(Failure("SaveSubmission"),)),
    "the store cannot be read once": Script(LIGHTCONE, failures=(Failure("LoadSubmission"),)),
    "the start is refused once": Script(LIGHTCONE, failures=(Failure("StartTask"),)),
    "a status check fails once": Script(
        LIGHTCONE, PROGRAM, questions=THREE[:1], failures=(Failure("GetTask"),)
    ),
    "started only": Script(LIGHTCONE, {"wait_for_completion": False}),
    "kept when killed": Script(LIGHTCONE, {"on_kill_policy": "leave"}),
    "the answer to the start is lost": Script(
        LIGHTCONE, {"on_uncertain_submit": "resubmit"}, lost_answers=("start",)
    ),
    "the answer to a message is lost": Script(
        LIGHTCONE, PROGRAM, questions=THREE[:2], lost_answers=("message",)
    ),
}
OF_LIGHTCONE = {
    "streamed": Script(LIGHTCONE, STREAM),
    "streamed, breaks": Script(LIGHTCONE, STREAM, stream="breaks"),
    "streamed, stalls": Script(LIGHTCONE, STREAM, work=200.0, stream="stalls"),
    "streamed, ends without completion": Script(LIGHTCONE, STREAM, stream="no completion"),
    "streamed, answered by a program": Script(LIGHTCONE, {**PROGRAM, **STREAM}, questions=THREE),
    "streamed, answered by someone": Script(LIGHTCONE, STREAM, questions=THREE[:2]),
    "streamed, fails": Script(LIGHTCONE, STREAM, ends=(FAILED, COMPLETED)),
    "streamed, timeout": Script(LIGHTCONE, {**STREAM, "timeout": 5.0}, work=100.0, retries=2, end="failed"),
    "streamed, the answer to the start is lost": Script(LIGHTCONE, STREAM, lost_answers=("start",)),
    "streamed, the start is refused once": Script(LIGHTCONE, STREAM, failures=(Failure("StreamTask"),)),
    "skipped by exit code": Script(
        LIGHTCONE, {"skip_on_exit_code": frozenset({3})}, ends=(FAILED,), exit_code=3, end="skipped"
    ),
    "not retried by exit code": Script(
        LIGHTCONE, {"no_retry_on_exit_code": frozenset({3})}, ends=(FAILED,), exit_code=3, end="failed"
    ),
}
OF_SHINZO = {"uncertain start fails": Script(SHINZO, lost_answers=("start",), end="failed")}


#: Lives of a task whose service calls Airflow.
CALLED_BACK = {
    "called back": Script(SHINZO, work=600.0, calls="once", most_checks=2, most_delay=5.0),
    "called back, late retry": Script(SHINZO, work=60.0, calls="once", downtime=400.0, most_checks=1),
    "called back twice": Script(
        SHINZO, questions=THREE[:2], work=60.0, calls="twice", most_checks=11, most_delay=5.0
    ),
    "called back early": Script(SHINZO, work=60.0, calls="early", most_checks=2, most_delay=15.0),
    "called back before it defers": Script(SHINZO, work=0.5, calls="once", most_checks=1, most_delay=15.0),
    "called back late": Script(SHINZO, work=60.0, calls="late", downtime=20.0, most_checks=1),
    "the call is lost": Script(
        SHINZO, work=700.0, calls="never", most_checks=4, most_delay=CALLBACK_POLL_INTERVAL
    ),
    "called back, fails, then completes": Script(
        SHINZO, work=60.0, calls="once", ends=(FAILED, COMPLETED), most_checks=3, most_delay=5.0
    ),
    "called back, answered by a program": Script(
        SHINZO, PROGRAM, questions=THREE[:2], work=60.0, calls="once", most_checks=7, most_delay=5.0
    ),
    "called back, answered by someone": Script(
        SHINZO, questions=THREE[:2], work=60.0, calls="once", most_checks=9, most_delay=5.0
    ),
    "called back, answered on the service": Script(
        SHINZO,
        questions=THREE[:2],
        people="on the service",
        work=60.0,
        calls="once",
        most_checks=3,
        most_delay=5.0,
    ),
    "the call is lost, answered on the service": Script(
        SHINZO, questions=THREE[:1], people="on the service", work=60.0, calls="never"
    ),
    "called back, timeout": Script(
        SHINZO, {"timeout": 5.0}, work=100.0, retries=2, calls="once", end="failed"
    ),
    "called back during an outage": Script(
        SHINZO, work=60.0, calls="once", outage=(58.0, 75.0), most_checks=9, most_delay=30.0
    ),
    "called back, no triggerer": Script(
        SHINZO, {"timeout": 100.0}, work=60.0, calls="once", has_triggerer=False, other_end="failed"
    ),
    "called back, the answer to the start is lost": Script(
        SHINZO, {"on_uncertain_submit": "resubmit"}, work=60.0, calls="once", lost_answers=("start",)
    ),
    "out of reach": Script(SHINZO, work=60.0, calls="out of reach", most_delay=10.0),
}


def list_lives() -> Iterator[tuple[str, Script]]:
    for deferrable, where in ((False, "on the worker"), (True, "deferred")):
        for service in (LIGHTCONE, SHINZO):
            own = OF_LIGHTCONE if service is LIGHTCONE else {**OF_SHINZO, **CALLED_BACK}
            for name, script in {**COMMON, **own}.items():
                # With an interval of its own, a deferred task does not rely on the call.
                interval = (None if deferrable else 100.0) if script.calls else 10.0
                settings = {"poll_interval": interval, **script.settings, "deferrable": deferrable}
                yield (
                    f"{service.service}, {where}: {name}",
                    replace(script, service=service, settings=settings),
                )


LIVES = dict(list_lives())
