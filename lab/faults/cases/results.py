"""Cases in which a result, or another file of the agent, cannot be stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.faults.case_definition import Expected, Steps, scenario
from lab.faults.our_case_run import OurCaseRun

#: The operator's log line for a file that could not be stored.
NOT_KEPT = "was not kept: Object storage at"
#: The error of an Airflow task that could not deliver the result.
UNDELIVERED = "The result is not lost"
#: Makes any result too large for XCom.
TOO_LARGE: Mapping[str, Any] = {"max_xcom_bytes": 10}
SCREENSHOTS = {"screenshots": 10, "screenshot_bytes": 20_000}
STREAM = {"stream": True, "screenshot_mode": "base64"}
#: Seconds in which the storage is repaired before the next try.
REPAIR_TIME = 15.0


def break_storage(run: OurCaseRun) -> Steps:
    """Break the object storage once it has a screenshot."""
    run.start()
    yield from run.until(run.artifacts.list_names, "a screenshot was stored")
    run.artifacts.break_down()


def lose_screenshots(run: OurCaseRun) -> Steps:
    """Let the object storage fail in the middle of the stream, to its end."""
    yield from break_storage(run)
    yield from run.until_ended()
    run.check(NOT_KEPT in run.read_logs(), "the log does not say that a screenshot was not kept")
    artifacts = run.cluster.api.read_xcoms(run.task, ["artifacts"]).get("artifacts", [])
    run.check(any("path" in entry for entry in artifacts), f"XCom lists no stored file: {artifacts}")
    run.check(any("error" in entry for entry in artifacts), f"XCom lists no lost file: {artifacts}")


def store_in_next_try(run: OurCaseRun) -> Steps:
    """Let the object storage fail when the result comes, and repair it before the next try."""
    yield from break_storage(run)
    yield from run.until(lambda: run.task.state == "up_for_retry", "the result could not be stored")
    run.check(UNDELIVERED in run.read_logs(), "the log does not say that the result is not lost")
    run.artifacts.repair()
    yield from run.until_ended(tries=2)


def store_after_clear(run: OurCaseRun) -> Steps:
    """Let the task fail because it has no ``artifacts_path``, set one in the DAG file, and clear the task."""
    run.start()
    yield from run.until_dag_run_ended()
    run.check(run.task.state == "failed", f"a result that is too large ended as {run.task.state}")
    run.check(UNDELIVERED in run.read_logs(), "the log does not say that the result is not lost")
    run.set_artifacts_path()
    run.clear()
    yield from run.until_ended(tries=2)


RESULT_SCENARIOS = (
    scenario(
        store_in_next_try,
        "storage_lost_at_result",
        "object storage fails as a large result comes, until the next try",
        "lightcone",
        Expected(tries=2),
        arguments={**STREAM, **TOO_LARGE},
        script=SCREENSHOTS,
        streams_result=True,
        has_artifacts_path=True,
        retry_delay=REPAIR_TIME,
    ),
    scenario(
        lose_screenshots,
        "storage_lost_in_stream",
        "object storage fails in a stream with screenshots",
        "lightcone",
        arguments=STREAM,
        script=SCREENSHOTS,
        streams_result=True,
        has_artifacts_path=True,
    ),
    scenario(
        store_after_clear,
        "undelivered_streamed",
        "large result without artifacts_path, then set, and cleared; streamed",
        "lightcone",
        Expected(tries=2),
        arguments={**STREAM, **TOO_LARGE},
        streams_result=True,
        retries=0,
    ),
    scenario(
        store_after_clear,
        "undelivered_deferred",
        "large result without artifacts_path, then set, and cleared; deferred",
        "shinzo",
        Expected(tries=2),
        arguments=TOO_LARGE,
        retries=0,
    ),
)
