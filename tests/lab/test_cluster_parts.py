"""The parts of a cluster with two of each component: nginx, Redis, kills, and when a component works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from pytest_mock import MockerFixture

from lab.cluster import celery, nginx
from lab.cluster.celery_cluster import CELERY_COMPONENTS, READY_LINES, CeleryCluster, find_kind
from lab.cluster.cluster_programs import ClusterPrograms
from lab.cluster.processes import find_free_ports, is_listening, wait_until
from lab.cluster_run.disturbances import DISTURBANCES, Kill, Outage, count_failures, disturb, spread

WAITING = ["sh", "-c", "sleep 60"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = str(self.server.server_port).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[int]:
    """Run a server that answers with the number of its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not nginx.find_nginx(), reason="nginx is not installed")
def test_nginx_uses_both_servers_and_goes_on_with_one(programs: ClusterPrograms) -> None:
    (port,) = find_free_ports(1)
    url = f"http://127.0.0.1:{port}/execution/health"
    folder = programs.home / "nginx"
    with requests.Session() as session, serve() as first:
        session.trust_env = False
        with serve() as second:
            programs.start_program("nginx", nginx.write_configuration(folder, port, [first, second]))
            assert wait_until(lambda: is_listening(port), timeout=20)
            assert {session.get(url, timeout=10).text for _ in range(4)} == {str(first), str(second)}
        assert {session.get(url, timeout=10).text for _ in range(4)} == {str(first)}
    counts = nginx.count_requests((folder / "requests.log").read_text().splitlines())
    assert counts == {"GET /execution/health": 8}


@pytest.mark.skipif(not celery.shutil.which("redis-server"), reason="redis-server is not installed")
def test_a_killed_redis_still_has_its_messages(programs: ClusterPrograms) -> None:
    programs.environment |= celery.build_celery_settings(concurrency=1)
    celery.start_redis(programs)
    port = programs.environment["AIRFLOW__CELERY__BROKER_URL"].rsplit(":", 1)[1].split("/")[0]
    push = ["redis-cli", "-p", port, "LPUSH", "default", "message"]
    assert programs.start_program("push", push).wait(timeout=20) == 0
    programs.stop_program("redis", grace=0)
    celery.start_redis(programs)
    pull = programs.start_program("pull", ["redis-cli", "-p", port, "RPOP", "default"])
    assert pull.wait(timeout=20) == 0
    assert pull.log_path.read_text() == "message\n"


def test_each_component_has_a_line_that_says_that_it_works() -> None:
    assert {find_kind(name) for name in CELERY_COMPONENTS} == set(READY_LINES)


def test_a_component_that_was_started_again_works_once_its_new_log_says_so(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    cluster = CeleryCluster(
        tmp_path / "home", dags_folder=tmp_path, environment={}, database_url="postgresql://", concurrency=1
    )
    cluster.prepare()
    mocker.patch.object(cluster, "python", "sh")
    cluster.components = {"scheduler": ("-c",)}
    log_path = cluster.log_folder / "scheduler.log"
    log_path.write_text("Starting the scheduler\n")
    try:
        cluster.start_component("scheduler")
        assert not cluster.is_ready("scheduler")
        with log_path.open("a") as log:
            log.write("Starting the scheduler\n")
        assert cluster.is_ready("scheduler")
    finally:
        cluster.stop(grace=0)


@dataclass
class Progress:
    ended: float = 0.0
    deferred: int = 1
    busy: tuple[str, ...] = ("worker-2",)

    def is_busy(self, name: str) -> bool:
        return name in self.busy


def test_a_disturbance_begins_when_its_share_has_ended_and_there_is_something_to_lose(
    mocker: MockerFixture,
) -> None:
    cluster, service, progress = mocker.Mock(), mocker.Mock(), Progress()
    cluster.is_ready.side_effect = [False, True]
    outage = Outage("with 503", {"status": 503, "times": 3})
    steps = disturb(cluster, service, progress, [Kill("worker-2"), outage])
    assert next(steps) == 0
    cluster.stop_program.assert_not_called()
    progress.ended, progress.busy = 0.5, ("worker",)
    assert next(steps) == 0
    cluster.stop_program.assert_not_called()
    progress.busy = ("worker-2",)
    assert next(steps) == 0
    cluster.stop_program.assert_called_once_with("worker-2", grace=0)
    cluster.start_component.assert_called_once_with("worker-2")
    assert next(steps) == 1
    service.fail.assert_not_called()
    progress.ended = 0.9
    assert next(steps, "over") == "over"
    service.fail.assert_called_once_with(outage.rule)


def test_one_of_each_component_is_killed() -> None:
    killed = {find_kind(each.name) for each in DISTURBANCES if isinstance(each, Kill)}
    assert killed == {find_kind(name) for name in CELERY_COMPONENTS} | {"nginx", "redis"}
    assert spread(len(DISTURBANCES))[-1] < 1.0


def test_the_outages_say_how_many_requests_fail() -> None:
    assert count_failures() == {"429": 20, "503": 30, "None": 40}
