"""Cases in which the service is down, or asks to be left alone."""

from __future__ import annotations

from case import ON_WORKER, Steps, scenario
from case_run import CaseRun
from worker_cases import SUBMIT

#: Seconds of each kind of outage; a minute in all.
OUTAGE = 15.0
PAGE = "<html><body><h1>Something went wrong</h1></body></html>"


def take_service_down(run: CaseRun) -> Steps:
    """Refuse for a while, then answer 503, then HTML in place of JSON, then nothing at all."""
    run.start()
    yield from run.until_waited_for()
    for begin, seconds in (
        (run.relay.refuse, OUTAGE),
        (lambda: run.relay.answer(503, PAGE), OUTAGE),
        (lambda: run.relay.answer(200, PAGE), OUTAGE / 2),
        (lambda: run.relay.answer(502, PAGE), OUTAGE / 2),
        (run.relay.keep_silent, OUTAGE),
    ):
        begin()
        yield from run.pause(seconds)
        run.check(not run.has_ended, f"the Airflow task ended as {run.task.state} in the outage")
    run.relay.open()
    yield from run.until_ended()


#: Seconds that the service asks to be left alone: after the submit, and after each of two status checks.
SUBMIT_PAUSE = 4
STATUS_PAUSE = 15


def limit_rate(run: CaseRun) -> Steps:
    """Answer the submit with 429, then the first two status checks: a worker's and whoever asks next."""
    run.sandbox.faults(
        [
            {**SUBMIT, "status": 429, "headers": {"Retry-After": str(SUBMIT_PAUSE)}},
            {"method": "GET", "status": 429, "headers": {"Retry-After": str(STATUS_PAUSE)}, "times": 2},
        ]
    )
    run.start()
    yield from run.until_ended()
    for method, told in (("POST", SUBMIT_PAUSE), ("GET", STATUS_PAUSE)):
        requests = run.list_requests(method)
        for place, refused in enumerate(requests[:-1]):
            if refused["status"] == 429:
                waited = requests[place + 1]["time"] - refused["time"]
                run.measure(f"{method} again after", waited)
                run.check(waited >= told, f"{method} again after {waited:.1f} s; it was told {told} s")


#: So that some of the requests into the silence end within it.
IMPATIENT = {"timeout": 5}

SERVICE_SCENARIOS = (
    scenario(
        take_service_down,
        "outage_deferred",
        "service down for 60 s (refused, 503, HTML, silent); deferred",
        "shinzo",
        seconds=75.0,
        is_relayed=True,
        connection_extra=IMPATIENT,
    ),
    scenario(
        take_service_down,
        "outage_on_worker",
        "service down for 60 s (the same); on a worker",
        "lightcone",
        seconds=40.0,
        arguments=ON_WORKER,
        is_relayed=True,
        connection_extra=IMPATIENT,
    ),
    scenario(
        limit_rate,
        "rate_limited_deferred",
        "429 with Retry-After on submit and status; deferred",
        "lightcone",
    ),
    scenario(
        limit_rate,
        "rate_limited_on_worker",
        "429 with Retry-After on submit and status; on a worker",
        "shinzo",
        arguments=ON_WORKER,
    ),
)
