"""The upgrade itself, as in ``docs/how-to/upgrade.md``, once all tasks wait in their states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from packaging.version import Version

from lab.cluster.airflow_api import AirflowApiError
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterError
from lab.cluster.processes import wait_until
from lab.command_line import log_progress
from lab.faults.case_definition import CaseError, Steps
from lab.faults.our_case_run import OurCaseRun
from lab.faults.round import SHORT_HEARTBEAT_TIMEOUT, build_settings

#: Seconds for all tasks to wait at the same time, and for all events that must happen during the upgrade.
TIMEOUT = 300.0
#: Seconds for the older Airflow to exit.
STOP_GRACE = 20.0


class RehearsedUpgrade:
    """
    An upgrade that happens once, when all scenarios wait for it.

    :param python: The Python with the newer Airflow.
    :param airflow: The version of the newer Airflow.
    :param scenarios: The number of scenarios that must wait for it.
    """

    def __init__(self, python: Path, airflow: Version, scenarios: int) -> None:
        self._python = python
        self._airflow = airflow
        self._scenarios = scenarios
        self._states: list[Callable[[], bool]] = []
        self._events: list[Callable[[], bool]] = []
        self._is_over = False
        self._failure = ""

    def until_all_others_wait(self, run: OurCaseRun) -> Steps:
        """Wait until all other scenarios wait for the upgrade."""
        yield from run.until(
            lambda: len(self._states) == self._scenarios - 1,
            "all others wait for the upgrade",
            timeout=TIMEOUT,
        )

    def wait(self, *runs: OurCaseRun, state: str, event: Callable[[], bool] = lambda: True) -> Steps:
        """
        Wait until Airflow has been upgraded while tasks are in a state.

        :param runs: The scenario's runs.
        :param state: The state of their Airflow tasks. Airflow is stopped once all tasks are in their states.
        :param event: Returns whether the event that must happen while Airflow is stopped has happened.
        :raises CaseError: The upgrade failed.
        """
        self._states.append(lambda: all(run.is_known and run.task.state == state for run in runs))
        self._events.append(event)
        yield from runs[0].until(self._is_due, "all tasks wait for the upgrade", timeout=TIMEOUT)
        if not self._is_over:
            self._is_over = True
            self._perform(runs[0].cluster)
        if self._failure:
            raise CaseError(f"the upgrade failed: {self._failure}")

    def _is_due(self) -> bool:
        everyone_waits = len(self._states) == self._scenarios
        return self._is_over or (everyone_waits and all(holds() for holds in self._states))

    def _perform(self, cluster: AirflowCluster) -> None:
        log_progress("All tasks wait: stopping Airflow ...")
        cluster.stop(grace=STOP_GRACE)
        if not wait_until(lambda: all(happened() for happened in self._events), timeout=TIMEOUT):
            self._failure = "an event that had to happen while Airflow was stopped did not happen"
            return
        cluster.python = str(self._python)
        environment = {**cluster.environment, "PATH": f"{self._python.parent}:{cluster.environment['PATH']}"}
        for name in SHORT_HEARTBEAT_TIMEOUT:
            environment.pop(name, None)
        cluster.environment = environment | build_settings(self._airflow)
        log_progress(f"Migrating the database and starting Airflow {self._airflow} ...")
        try:
            cluster.start(api_servers_first=True)
        except (AirflowApiError, ClusterError) as error:
            self._failure = str(error)
        else:
            log_progress(f"Airflow {self._airflow} is ready at {cluster.api.base_url}")
