"""Cases in which the service is down, or limits the request rate."""

from __future__ import annotations

from lab.faults.case_definition import ON_WORKER, Steps, scenario
from lab.faults.cases.workers import SUBMIT
from lab.faults.our_case_run import OurCaseRun

#: Seconds of each kind of outage: a minute in total.
OUTAGE = 15.0
PAGE = "<html><body><h1>Something went wrong</h1></body></html>"


def take_service_down(run: OurCaseRun) -> Steps:
    """Refuse connections for a while, then respond with 503, then with HTML, then not at all."""
    run.start()
    yield from run.until_waited_for()
    for begin, seconds in (
        (run.proxy.refuse, OUTAGE),
        (lambda: run.proxy.respond(503, PAGE), OUTAGE),
        (lambda: run.proxy.respond(200, PAGE), OUTAGE / 2),
        (lambda: run.proxy.respond(502, PAGE), OUTAGE / 2),
        (run.proxy.never_respond, OUTAGE),
    ):
        begin()
        yield from run.pause(seconds)
        run.check(not run.has_ended, f"the Airflow task ended as {run.task.state} in the outage")
    run.proxy.open()
    yield from run.until_ended()


#: Retry-After in seconds, for the submit and for each of two status checks.
SUBMIT_PAUSE = 4
STATUS_PAUSE = 15


def limit_rate(run: OurCaseRun) -> Steps:
    """Respond with 429 to the submit, then to the first two status checks: the worker's and the next."""
    run.sandbox.faults(
        [
            {**SUBMIT, "status": 429, "headers": {"Retry-After": str(SUBMIT_PAUSE)}},
            {"method": "GET", "status": 429, "headers": {"Retry-After": str(STATUS_PAUSE)}, "times": 2},
        ]
    )
    run.start()
    yield from run.until_ended()
    for method, retry_after in (("POST", SUBMIT_PAUSE), ("GET", STATUS_PAUSE)):
        requests = run.list_requests(method)
        for place, limited in enumerate(requests[:-1]):
            if limited["status"] == 429:
                waited = requests[place + 1]["time"] - limited["time"]
                run.measure(f"{method} again after", waited)
                run.check(
                    waited >= retry_after, f"{method} again after {waited:.1f} s; Retry-After: {retry_after}"
                )


#: Short enough that some requests time out while the service does not answer.
SHORT_TIMEOUT = {"timeout": 5}

SERVICE_SCENARIOS = (
    scenario(
        take_service_down,
        "outage_deferred",
        "service down for 60 s (refused, 503, HTML, no answer); deferred",
        "shinzo",
        seconds=75.0,
        uses_fault_proxy=True,
        connection_extra=SHORT_TIMEOUT,
    ),
    scenario(
        take_service_down,
        "outage_on_worker",
        "service down for 60 s (the same); on a worker",
        "lightcone",
        seconds=40.0,
        arguments=ON_WORKER,
        uses_fault_proxy=True,
        connection_extra=SHORT_TIMEOUT,
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
