"""
A real Airflow on this machine: API server, scheduler, DAG processor and triggerer.

    with AirflowCluster(Path("home"), dags_folder=Path("dags")) as cluster:
        cluster.wait_for_dags(["my_dag"])
        cluster.api.unpause("my_dag")
        run_id = cluster.api.trigger("my_dag")
        print(cluster.wait_for_run("my_dag", run_id, timeout=60))

Each component is a process session of its own, so that ending it leaves no process behind: a killed ``airflow
standalone`` leaves its components running, and it starts 32 workers. The programs get a clean environment,
without the settings of the user's own Airflow. Several clusters can run at the same time.
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

from lab.cluster.airflow_api import AirflowApi
from lab.cluster.airflow_environment import build_address_settings, build_airflow_environment
from lab.cluster.component_commands import API_SERVERS, COMPONENTS, HEALTH_NAMES, SQLITE_COMPONENTS
from lab.cluster.processes import (
    Program,
    SessionLeader,
    end_process_trees,
    find_free_ports,
    read_session_leader,
)
from lab.cluster.sqlite_trigger_ids import never_reuse_trigger_ids
from lab.cluster.state_file import ClusterState, read_cluster_state

RUN_END_STATES = frozenset({"success", "failed"})


class ClusterError(Exception):
    """The cluster did not start, or a part of it exited; the message holds the end of its log."""


class ClusterTimeoutError(ClusterError):
    """Something did not happen in time; the cluster is still running."""


class AirflowCluster:
    """
    One Airflow installation with its own home, database, port and keys.

    :param home: Its folder; an earlier cluster there is deleted.
    :param dags_folder: The folder with the DAG files.
    :param environment: More environment variables for every component: connections, settings.
    :param database_url: An empty PostgreSQL database; default a SQLite file in the home.
    :param startup_timeout: Seconds until the components must be healthy, and again until the DAGs are parsed.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        database_url: str | None = None,
        startup_timeout: float = 120.0,
    ) -> None:
        self.home = home.resolve()
        self.log_folder = self.home / "component-logs"
        self.sqlite_path = None if database_url else self.home / "airflow.db"
        self.components = COMPONENTS if database_url else SQLITE_COMPONENTS
        self.api_servers = [name for name in API_SERVERS if name in self.components]
        database_url = database_url or f"sqlite:///{self.sqlite_path}"
        self.environment = build_airflow_environment(self.home, dags_folder.resolve(), database_url)
        self.environment |= environment or {}
        self.startup_timeout = startup_timeout
        self.programs: dict[str, Program] = {}
        self.api = AirflowApi("")
        self._worker_api = AirflowApi("")
        self._ports: dict[str, int] = {}
        self._owner: SessionLeader | None = read_session_leader(os.getpid())

    def __enter__(self) -> AirflowCluster:
        self.prepare()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def prepare(self) -> None:
        """
        Make an empty home; end first what a killed owner left running there.

        :raises ClusterError: A running cluster uses the home, or it holds something other than a cluster.
        """
        state = read_cluster_state(self.home)
        if state is None and self.home.exists() and any(self.home.iterdir()):
            raise ClusterError(f"{self.home} holds something other than a cluster; choose an empty folder")
        if state is not None and state.is_in_use:
            raise ClusterError(f"a running cluster uses {self.home}; stop it first, or choose another home")
        if state is not None:
            state.end_programs()
            shutil.rmtree(self.home)
        self.log_folder.mkdir(parents=True)
        self._write_state()

    def start(self) -> None:
        """
        Create the database, start the components and wait until Airflow reports them healthy.

        On failure or interrupt, everything that was started is ended again.

        :raises ClusterError: A component exited, or was not healthy in time.
        """
        try:
            self._migrate_database()
            # As late as possible: another process may take a free port until it is used.
            self._ports = dict(zip(self.api_servers, find_free_ports(len(self.api_servers)), strict=True))
            addresses = [f"http://127.0.0.1:{port}" for port in self._ports.values()]
            ui, worker = addresses[0], addresses[-1]
            self.api = AirflowApi(ui, on_unreachable=lambda: self._restart_crashed_api_servers(patience=0.5))
            self._worker_api = AirflowApi(worker)
            self.environment |= build_address_settings(ui, worker)
            for component in self.components:
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
        Start one of ``components``.

        :param name: A name for a second one of its kind; default the component's.
        """
        command = [sys.executable, "-m", "airflow", *self.components[component]]
        if component in self._ports:
            command += ["--port", str(self._ports[component])]
        return self.start_program(name or component, command)

    def start_program(self, name: str, command: Sequence[str], *, output_path: Path | None = None) -> Program:
        """Start a program in the cluster's environment; it ends with the cluster."""
        self.programs[name] = program = Program(
            name,
            command,
            environment=self.environment,
            log_path=self.log_folder / f"{name}.log",
            output_path=output_path,
        )
        self._write_state()
        return program

    def wait_for_dags(self, dag_ids: Iterable[str]) -> None:
        """
        Wait until these DAGs are parsed.

        :raises ClusterError: A DAG file cannot be imported, or a DAG was not parsed in time.
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
        on_poll: Callable[[], None] = lambda: None,
    ) -> dict[str, str]:
        """
        Wait until all of these runs have ended, and return their states, ``success`` or ``failed``, by DAG.

        :param runs: The id of the run by the id of the DAG.
        :param timeout: Seconds for all of them together.
        :param on_end: Called with the DAG's id and the state of each run that has ended.
        :param on_poll: Called before each poll of the runs.
        :raises ClusterTimeoutError: A run did not end in time.
        :raises ClusterError: A program of the cluster exited meanwhile.
        """
        states: dict[str, str] = {}

        def find_active() -> list[str]:
            on_poll()
            for dag_id in runs.keys() - states.keys():
                state = self.api.read_run_state(dag_id, runs[dag_id])
                if state in RUN_END_STATES:
                    states[dag_id] = state
                    on_end(dag_id, state)
            return [dag_id for dag_id in runs if dag_id not in states]

        self._wait_until("ended", find_active, timeout)
        return states

    def stop_program(self, name: str, *, grace: float = 10.0) -> None:
        """End one program and everything it started; a grace of 0 kills it, as losing its machine would."""
        self.programs.pop(name).stop(grace=grace)
        self._write_state()

    def stop(self, *, grace: float = 3.0) -> None:
        """End every program of the cluster and everything it started; see ``end_process_trees``."""
        if self.programs:
            end_process_trees([program.leader for program in self.programs.values()], grace=grace)
            self.programs.clear()
            # Without an owner: this process may create another cluster in the same home.
            ClusterState().write(self.home)

    def leave_running(self) -> None:
        """
        Keep the cluster running after this process exits.

        ``ClusterState.end_programs`` ends it from another process.
        """
        self._owner = None
        self._write_state()

    def check_programs(self) -> None:
        """
        Raise if a program has exited that should run; restart an API server that has crashed.

        :raises ClusterError: With the program's exit status and the end of its log.
        """
        self._restart_crashed_api_servers()
        for program in self.programs.values():
            if (status := program.exit_status) is not None:
                raise ClusterError(
                    f"{program.name} ended with exit status {status}. {program.describe_log_end()}"
                )

    def _restart_crashed_api_servers(self, patience: float = 0.0) -> bool:
        """
        Restart an API server whose interpreter has crashed, as a service manager would.

        CPython 3.11.7 crashes now and then, within seconds of its start: it writes to freed memory. The
        warning has the threads' stacks, and pytest shows it.

        :param patience: Seconds to wait for its exit: its connections are cut a moment earlier.
        :returns: True if one had crashed and all of them answer again.
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
            self._wait_until("answering", self._find_unreachable, self.startup_timeout)
        return bool(crashed)

    def _migrate_database(self) -> None:
        migration = self.start_program("db-migrate", [sys.executable, "-m", "airflow", "db", "migrate"])
        if (status := migration.wait(timeout=self.startup_timeout)) != 0:
            outcome = "did not finish in time" if status is None else f"ended with exit status {status}"
            raise ClusterError(f"creating the database {outcome}. {migration.describe_log_end()}")
        if self.sqlite_path:
            never_reuse_trigger_ids(self.sqlite_path)
        del self.programs[migration.name]

    def _find_unhealthy(self) -> list[str]:
        """Return the components that Airflow does not report as healthy."""
        health = self.api.read_health()
        unreachable = [] if self._worker_api.is_worker_api_healthy() else ["worker-api-server"]
        return [name for name in HEALTH_NAMES if health.get(name) != "healthy"] + unreachable

    def _find_unreachable(self) -> list[str]:
        """Return the API servers that do not answer; a fault case may have stopped the other components."""
        return [name for name in self._find_unhealthy() if name in ("metadatabase", "worker-api-server")]

    def _wait_until(self, condition: str, find_missing: Callable[[], list[str]], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self.check_programs()
        while missing := find_missing():
            if time.monotonic() > deadline:
                raise ClusterTimeoutError(f"not {condition} after {timeout:.0f} s: {', '.join(missing)}")
            time.sleep(0.25)
            self.check_programs()

    def _write_state(self) -> None:
        leaders = [program.leader for program in self.programs.values()]
        ClusterState(self.api.base_url, self._owner, leaders).write(self.home)
