"""
A real Airflow on this machine: API server, scheduler, DAG processor and triggerer, on SQLite.

    with AirflowCluster(Path("home"), dags_folder=Path("dags")) as cluster:
        cluster.wait_for_dags(["my_dag"])
        cluster.api.unpause("my_dag")
        run_id = cluster.api.trigger("my_dag")
        print(cluster.wait_for_run("my_dag", run_id, timeout=60))

Each component is a session of its own, so that nothing of it is left afterwards: ``airflow standalone``
leaves its components running when it is killed, and starts 32 workers. The programs get a clean environment,
so nothing of the user's own Airflow gets in. Several clusters can run side by side, each in its own home.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from airflow_api import AirflowApi
from airflow_environment import build_address_settings, build_airflow_settings, build_clean_environment
from cluster_record import ClusterRecord, read_record
from components import API_SERVERS, COMPONENTS, HEALTH_NAMES
from processes import Leader, Program, end_families, find_free_ports, read_leader
from trigger_ids import never_reuse_trigger_ids

RUN_END_STATES = frozenset({"success", "failed"})


class ClusterError(Exception):
    """The cluster could not be started, or a part of it ended; the message holds the end of its log."""


class ClusterTimeoutError(ClusterError):
    """Something did not happen in time; everything still runs."""


class AirflowCluster:
    """
    One Airflow installation with its own home, database, port and keys.

    :param home: Its folder; emptied at the start if it holds an earlier cluster.
    :param dags_folder: The folder with the DAG files.
    :param environment: More environment variables for every component, such as connections and settings.
    :param startup_timeout: Seconds for the components to become healthy, and for the DAGs to be parsed.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        startup_timeout: float = 120.0,
    ) -> None:
        self.home = home.resolve()
        self.log_folder = self.home / "component-logs"
        self.environment = {
            **build_clean_environment(),
            **build_airflow_settings(self.home, dags_folder.resolve()),
            **(environment or {}),
        }
        self.startup_timeout = startup_timeout
        self.programs: dict[str, Program] = {}
        self.api = AirflowApi("")
        self._worker_api = AirflowApi("")
        self._ports: dict[str, int] = {}
        self._owner: Leader | None = read_leader(os.getpid())

    def __enter__(self) -> AirflowCluster:
        self.prepare()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def prepare(self) -> None:
        """
        Make an empty home; what a killed owner left running there is ended first.

        :raises ClusterError: A running cluster uses the home, or it holds something else than a cluster.
        """
        record = read_record(self.home)
        if record is None and self.home.exists() and any(self.home.iterdir()):
            raise ClusterError(f"{self.home} holds something else than a cluster; choose an empty folder")
        if record is not None and record.is_in_use:
            raise ClusterError(f"a running cluster uses {self.home}; stop it first, or choose another home")
        if record is not None:
            record.end_programs()
            shutil.rmtree(self.home)
        self.log_folder.mkdir(parents=True)
        self._write_record()

    def start(self) -> None:
        """
        Make the database, start the components and wait until Airflow calls them healthy.

        Whatever was started is ended again when this fails or is interrupted.

        :raises ClusterError: A component ended, or was not healthy in time.
        """
        try:
            self._migrate_database()
            # Only now: the sooner a free port is used, the less likely somebody else takes it before.
            self._ports = dict(zip(API_SERVERS, find_free_ports(len(API_SERVERS)), strict=True))
            page, worker = (f"http://127.0.0.1:{self._ports[name]}" for name in API_SERVERS)
            self.api = AirflowApi(page, on_lost=lambda: self._revive_api_servers(patience=0.5))
            self._worker_api = AirflowApi(worker)
            self.environment |= build_address_settings(page, worker)
            for component in COMPONENTS:
                self.start_component(component)
            self._wait_until("healthy", self._find_unhealthy, self.startup_timeout)
        except ClusterTimeoutError as error:
            logs = [f"{name}: {program.describe_log_end(10)}" for name, program in self.programs.items()]
            self.stop()
            raise ClusterError("\n".join([str(error), *logs])) from error
        except BaseException:
            self.stop()
            raise

    def start_component(self, component: str, *, name: str | None = None) -> Program:
        """
        Start one of ``COMPONENTS``.

        :param name: How to call it, where a second one of its kind is started; default the component's name.
        """
        command = [sys.executable, "-m", "airflow", *COMPONENTS[component]]
        if component in self._ports:
            command += ["--port", str(self._ports[component])]
        return self.start_program(name or component, command)

    def start_program(self, name: str, command: Sequence[str], *, output_path: Path | None = None) -> Program:
        """Start a program in the cluster's environment; it is ended with the cluster."""
        self.programs[name] = program = Program(
            name,
            command,
            environment=self.environment,
            log_path=self.log_folder / f"{name}.log",
            output_path=output_path,
        )
        self._write_record()
        return program

    def wait_for_dags(self, dag_ids: Iterable[str]) -> None:
        """
        Wait until these DAGs are parsed.

        :raises ClusterError: A DAG file cannot be imported, or a DAG did not turn up in time.
        """
        wanted = set(dag_ids)

        def find_missing() -> list[str]:
            if errors := self.api.list_import_errors():
                reports = [f"{file} cannot be imported:\n{trace}" for file, trace in errors.items()]
                raise ClusterError("\n".join(reports))
            return sorted(wanted - self.api.list_dag_ids())

        self._wait_until("parsed", find_missing, self.startup_timeout)

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float) -> str:
        """Wait for the end of one run and return its state; see ``wait_for_runs``."""
        return self.wait_for_runs({dag_id: run_id}, timeout=timeout)[dag_id]

    def wait_for_runs(
        self,
        runs: Mapping[str, str],
        *,
        timeout: float,
        on_end: Callable[[str, str], None] = lambda dag_id, state: None,
        on_look: Callable[[], None] = lambda: None,
    ) -> dict[str, str]:
        """
        Wait until all of these runs have ended, and return their states, ``success`` or ``failed``, by DAG.

        :param runs: The id of the run by the id of the DAG.
        :param timeout: Seconds for all of them together.
        :param on_end: Called with the DAG's id and the state whenever one has ended.
        :param on_look: Called each time before the runs are looked at.
        :raises ClusterTimeoutError: Some did not end in time.
        :raises ClusterError: A program of the cluster ended meanwhile.
        """
        states: dict[str, str] = {}

        def find_active() -> list[str]:
            on_look()
            for dag_id in runs.keys() - states.keys():
                state = self.api.read_run_state(dag_id, runs[dag_id])
                if state in RUN_END_STATES:
                    states[dag_id] = state
                    on_end(dag_id, state)
            return [dag_id for dag_id in runs if dag_id not in states]

        self._wait_until("ended", find_active, timeout)
        return states

    def stop_program(self, name: str, *, grace: float = 10.0) -> None:
        """End one program with everything that it started; with a grace of 0 as if its machine was lost."""
        program = self.programs.pop(name)
        program.stop(grace=grace)
        self._write_record()

    def stop(self, *, grace: float = 3.0) -> None:
        """End every program of the cluster with all that it started; see ``end_families``."""
        programs = list(self.programs.values())
        if not programs:
            return
        end_families([program.leader for program in programs], grace=grace)
        self.programs.clear()
        # Nobody's: this process may make another cluster in the same home.
        ClusterRecord(url="", owner=None, leaders=[]).write(self.home)

    def leave_running(self) -> None:
        """
        Let the cluster run on after this process has ended.

        ``ClusterRecord.end_programs`` ends it from another process.
        """
        self._owner = None
        self._write_record()

    def check_programs(self) -> None:
        """
        Raise when a program has ended that should run; an API server that has crashed is started again.

        :raises ClusterError: With the program's exit status and the end of its log.
        """
        self._revive_api_servers()
        for program in self.programs.values():
            if (status := program.exit_status) is not None:
                raise ClusterError(
                    f"{program.name} ended with exit status {status}. {program.describe_log_end()}"
                )

    def _revive_api_servers(self, patience: float = 0.0) -> bool:
        """
        Start an API server again whose interpreter has crashed, as its service manager would.

        CPython 3.11.7 does, now and then, within seconds after a start: it writes to memory that was freed.
        The warning has the threads' stacks, and pytest shows it.

        :param patience: Seconds to wait for the end of one: it cuts a request some moments before.
        :returns: True when one had crashed; all of them serve again then.
        """
        crashed = [
            program
            for name, program in self.programs.items()
            if name in API_SERVERS and program.wait(timeout=patience) == -signal.SIGSEGV
        ]
        for program in crashed:
            warnings.warn(f"{program.name} crashed. {program.describe_log_end(60)}", stacklevel=2)
            self.stop_program(program.name)
            self.start_component(program.name)
        if crashed:
            self._wait_until("serving", self._find_silent, self.startup_timeout)
        return bool(crashed)

    def _migrate_database(self) -> None:
        migration = self.start_program("db-migrate", [sys.executable, "-m", "airflow", "db", "migrate"])
        if (status := migration.wait(timeout=self.startup_timeout)) != 0:
            outcome = "did not end in time" if status is None else f"ended with exit status {status}"
            raise ClusterError(f"making the database {outcome}. {migration.describe_log_end()}")
        never_reuse_trigger_ids(self.home / "airflow.db")
        del self.programs[migration.name]

    def _find_unhealthy(self) -> list[str]:
        """Return the components that Airflow does not call healthy."""
        health = self.api.read_health()
        silent = [] if self._worker_api.serves_workers() else ["worker-api-server"]
        return [name for name in HEALTH_NAMES if health.get(name) != "healthy"] + silent

    def _find_silent(self) -> list[str]:
        """Return what an API server's answer would show; other components may be away on purpose."""
        return [name for name in self._find_unhealthy() if name in ("metadatabase", "worker-api-server")]

    def _wait_until(self, wish: str, find_missing: Callable[[], list[str]], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self.check_programs()
        while missing := find_missing():
            if time.monotonic() > deadline:
                raise ClusterTimeoutError(f"not {wish} after {timeout:.0f} s: {', '.join(missing)}")
            time.sleep(0.25)
            self.check_programs()

    def _write_record(self) -> None:
        record = ClusterRecord(
            url=self.api.base_url,
            owner=self._owner,
            leaders=[program.leader for program in self.programs.values()],
        )
        record.write(self.home)
