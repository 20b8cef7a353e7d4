"""
A real Airflow on this machine as large deployments have it: two of each component, on Celery.

Its API servers are behind an nginx, and its workers get their tasks through a Redis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.cluster import celery, nginx, postgresql
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterTimeoutError
from lab.cluster.component_commands import CELERY_WORKER, COMPONENTS
from lab.cluster.processes import Program, find_free_ports, wait_until

#: The line in the log of each kind of component once it works.
READY_LINES = {
    "api-server": "Application startup complete",
    "triggerer": "Starting the triggerer",
    "dag-processor": "Starting the Dag Processor Job",
    "scheduler": "Starting the scheduler",
    "worker": " ready.",
}
#: Two of each, but one DAG processor.
CELERY_COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": COMPONENTS["api-server"],
    "api-server-2": COMPONENTS["api-server"],
    "triggerer": COMPONENTS["triggerer"],
    "triggerer-2": COMPONENTS["triggerer"],
    "dag-processor": COMPONENTS["dag-processor"],
    "worker": (*CELERY_WORKER, "--celery-hostname", "worker"),
    "worker-2": (*CELERY_WORKER, "--celery-hostname", "worker-2"),
    "scheduler": COMPONENTS["scheduler"],
    "scheduler-2": COMPONENTS["scheduler"],
}


def list_lacks() -> list[str]:
    """Return what this machine lacks for such a cluster."""
    lacks = [postgresql.explain_lack(), *celery.list_lacks(), nginx.explain_lack()]
    return [lack for lack in lacks if lack]


def find_kind(name: str) -> str:
    """Return the kind of a component, which is the name of the first of its kind."""
    return name.removesuffix("-2")


class CeleryCluster(AirflowCluster):
    """
    One such Airflow.

    :param home: Its folder; an earlier cluster there is deleted.
    :param dags_folder: The folder with the DAG files.
    :param environment: Additional environment variables for every component: connections, settings.
    :param database_url: An empty PostgreSQL database.
    :param concurrency: The number of tasks that a worker runs at the same time.
    :param startup_timeout: Seconds for the components to become healthy, and again for the DAGs to be parsed.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str],
        database_url: str,
        concurrency: int,
        startup_timeout: float = 300.0,
    ) -> None:
        super().__init__(
            home,
            dags_folder=dags_folder,
            environment={**celery.build_celery_settings(concurrency=concurrency), **environment},
            database_url=database_url,
            components=CELERY_COMPONENTS,
            startup_timeout=startup_timeout,
        )
        self._log_sizes: dict[str, int] = {}

    def start(self, *, api_servers_first: bool = True) -> None:
        """
        Start Redis, then what ``AirflowCluster.start`` does, and wait until the second of each is ready too.

        :param api_servers_first: False to start everything at once.
        """
        try:
            celery.start_redis(self)
            super().start(api_servers_first=api_servers_first)
            for name in self.components:
                self.wait_until_ready(name)
        except BaseException:
            self.stop()
            raise

    def _publish(self, ports: Sequence[int]) -> tuple[str, str]:
        (port,) = find_free_ports(1)
        self._nginx = nginx.write_configuration(self.home / "nginx", port, ports)
        self.start_program("nginx", self._nginx)
        return f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}"

    @property
    def requests_path(self) -> Path:
        """The log of the requests to the API servers."""
        return self.home / "nginx" / "requests.log"

    def start_component(self, component: str, *, name: str | None = None) -> Program:
        """Start a component, or again the ``nginx`` or the ``redis`` that was stopped."""
        if component == "redis":
            return celery.start_redis(self)
        if component == "nginx":
            return self.start_program("nginx", self._nginx)
        log_path = self.log_folder / f"{component}.log"
        self._log_sizes[component] = log_path.stat().st_size if log_path.exists() else 0
        return super().start_component(component, name=name)

    def is_ready(self, name: str) -> bool:
        """Return True once a component works that was started."""
        if name not in self._log_sizes:
            return self.programs[name].exit_status is None
        with self.programs[name].log_path.open(errors="replace") as log:
            log.seek(self._log_sizes[name])
            return READY_LINES[find_kind(name)] in log.read()

    def wait_until_ready(self, name: str) -> None:
        """
        Wait until a component works that was started.

        :raises ClusterTimeoutError: It did not in time.
        """
        if not wait_until(lambda: self.is_ready(name), timeout=self.startup_timeout):
            raise ClusterTimeoutError(f"{name} did not start. {self.programs[name].describe_log_end()}")
