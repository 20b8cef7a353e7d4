"""
A real Airflow on this machine: API server, scheduler, DAG processor and triggerer.

    with AirflowCluster(Path("home"), dags_folder=Path("dags")) as cluster:
        cluster.wait_for_dags(["my_dag"])
        cluster.api.unpause("my_dag")
        run_id = cluster.api.trigger("my_dag")
        print(cluster.wait_for_run("my_dag", run_id, timeout=60))

Each component is a separate process session, so ending it leaves no process behind. (A killed ``airflow
standalone`` leaves its components running, and it starts 32 workers.) The programs get a clean environment,
without the settings of the user's own Airflow. Several clusters can run at the same time.
"""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lab.cluster.airflow_api import AirflowApi
from lab.cluster.airflow_environment import build_address_settings, build_airflow_environment
from lab.cluster.cluster_programs import ClusterError, ClusterPrograms, ClusterTimeoutError
from lab.cluster.component_commands import API_SERVER, COMPONENTS, HEALTH_NAMES, SQLITE_COMPONENTS
from lab.cluster.processes import Program, find_free_ports
from lab.cluster.sqlite_trigger_ids import never_reuse_trigger_ids

RUN_END_STATES = frozenset({"success", "failed"})


class AirflowCluster(ClusterPrograms):
    """
    One Airflow installation with its own home, database, port and keys.

    :param home: Its folder; an earlier cluster there is deleted.
    :param dags_folder: The folder with the DAG files.
    :param environment: Additional environment variables for every component: connections, settings.
    :param database_url: An empty PostgreSQL database; default a SQLite file in the home.
    :param components: Airflow's command for each component by its name; default one of each.
    :param startup_timeout: Seconds for the components to become healthy, and again for the DAGs to be parsed.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        database_url: str | None = None,
        components: Mapping[str, tuple[str, ...]] | None = None,
        startup_timeout: float = 120.0,
    ) -> None:
        home = home.resolve()
        self.sqlite_path = None if database_url else home / "airflow.db"
        self.components = components or (COMPONENTS if database_url else SQLITE_COMPONENTS)
        self.api_servers = [name for name, command in self.components.items() if command[0] == API_SERVER]
        #: The Python that runs them; another one may have a different version of Airflow.
        self.python = sys.executable
        database_url = database_url or f"sqlite:///{self.sqlite_path}"
        settings = build_airflow_environment(home, dags_folder.resolve(), database_url)
        super().__init__(home, {**settings, **(environment or {})})
        self.startup_timeout = startup_timeout
        self.api = AirflowApi("")
        self._worker_api = AirflowApi("")
        self._ports: dict[str, int] = {}

    @property
    def url(self) -> str:
        """The address of the Airflow UI; empty until it is known."""
        return self.api.base_url

    def __enter__(self) -> AirflowCluster:
        self.prepare()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, *, api_servers_first: bool = False) -> None:
        """
        Create or migrate the database, start the components and wait until Airflow reports them healthy.

        On failure or interrupt, everything that was started is stopped again.

        :param api_servers_first: True to start the other components only once the API servers respond.
        :raises ClusterError: A component exited, or was not healthy in time.
        """
        try:
            self._migrate_database()
            # As late as possible: another process may take a free port until it is used.
            self._ports = dict(zip(self.api_servers, find_free_ports(len(self.api_servers)), strict=True))
            ui, worker = self._publish(list(self._ports.values()))
            self.api = AirflowApi(ui, on_unreachable=lambda: self._restart_crashed_api_servers(patience=0.5))
            self._worker_api = AirflowApi(worker)
            self.environment |= build_address_settings(ui, worker)
            for component in self.components:
                if api_servers_first and component not in self.api_servers:
                    self._wait_until("answering", self._find_unreachable, self.startup_timeout)
                self.start_component(component)
            self._wait_until("healthy", self._find_unhealthy, self.startup_timeout)
        except ClusterTimeoutError as error:
            logs = [f"{name}: {program.describe_log_end(10)}" for name, program in self.programs.items()]
            self.stop()
            raise ClusterError("\n".join([str(error), *logs])) from error
        except BaseException:
            self.stop()
            raise

    def _publish(self, ports: Sequence[int]) -> tuple[str, str]:
        """Return the addresses of the UI and of the workers' API, given the ports of the API servers."""
        return f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[-1]}"

    def start_component(self, component: str, *, name: str | None = None) -> Program:
        """
        Start one of ``components``.

        :param name: The name of a second instance; default: the component's name.
        """
        command = [self.python, "-m", "airflow", *self.components[component]]
        if component in self._ports:
            command += ["--port", str(self._ports[component])]
        return self.start_program(name or component, command)

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
        :raises ClusterError: A program of the cluster exited in the meantime.
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

    def check_programs(self) -> None:
        """
        Raise if a program has exited that should run; restart an API server that has crashed.

        :raises ClusterError: With the program's exit status and the end of its log.
        """
        self._restart_crashed_api_servers()
        super().check_programs()

    def _restart_crashed_api_servers(self, patience: float = 0.0) -> bool:
        """
        Restart an API server whose interpreter has crashed, as a service manager would.

        CPython 3.11.7 occasionally crashes within seconds of its start, because it writes to freed memory.
        The warning contains the threads' stacks, and pytest shows it.

        :param patience: Seconds to wait for its exit: its connections close a moment earlier.
        :returns: True if one had crashed and all of them respond again.
        """
        crashed = [
            program
            for name, program in self.programs.items()
            if name in self.api_servers and program.wait(timeout=patience) == -signal.SIGSEGV
        ]
        for program in crashed:
            warnings.warn(f"{program.name} crashed. {program.describe_log_end(60)}", stacklevel=2)
            self.stop_program(program.name)
            self.start_component(program.name)
        if crashed:
            self._wait_until("answering", self._find_unreachable, self.startup_timeout)
        return bool(crashed)

    def _migrate_database(self) -> None:
        new_file = self.sqlite_path if self.sqlite_path and not self.sqlite_path.exists() else None
        migration = self.start_program("db-migrate", [self.python, "-m", "airflow", "db", "migrate"])
        if (status := migration.wait(timeout=self.startup_timeout)) != 0:
            outcome = "did not finish in time" if status is None else f"ended with exit status {status}"
            raise ClusterError(f"migrating the database {outcome}. {migration.describe_log_end()}")
        if new_file:
            never_reuse_trigger_ids(new_file)
        del self.programs[migration.name]

    def _find_unhealthy(self) -> list[str]:
        """Return the components that Airflow does not report as healthy."""
        health = self.api.read_health()
        unreachable = [] if self._worker_api.is_worker_api_healthy() else ["worker-api-server"]
        return [name for name in HEALTH_NAMES if health.get(name) != "healthy"] + unreachable

    def _find_unreachable(self) -> list[str]:
        """Return the API servers that do not respond; a fault case may have stopped the other components."""
        return [name for name in self._find_unhealthy() if name in ("metadatabase", "worker-api-server")]

    def _wait_until(self, condition: str, find_missing: Callable[[], list[str]], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self.check_programs()
        while missing := find_missing():
            if time.monotonic() > deadline:
                raise ClusterTimeoutError(f"not {condition} after {timeout:.0f} s: {', '.join(missing)}")
            time.sleep(0.25)
            self.check_programs()
