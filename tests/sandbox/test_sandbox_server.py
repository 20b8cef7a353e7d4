from __future__ import annotations

import gc
import socket
import threading
import time
import warnings

import pytest
import requests

from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskError
from airflow_agent_tasks.sandbox.server import Sandbox


def test_it_answers_as_soon_as_it_has_started_and_no_more_when_it_has_stopped():
    with Sandbox() as sandbox:
        assert sandbox.tasks() == []
        assert requests.get(f"{sandbox.url}/agent/tasks/x", timeout=10).status_code == 401
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"{sandbox.url}/agent/tasks/x", timeout=10)


def test_two_run_side_by_side_with_keys_of_their_own():
    with Sandbox(api_key="sk_one") as one, Sandbox(api_key="sk_two") as two:
        assert one.url != two.url
        for sandbox, status in ((one, 404), (two, 401)):
            reply = requests.get(
                f"{sandbox.url}/agent/tasks/x", headers={"Authorization": "Bearer sk_one"}, timeout=10
            )
            assert reply.status_code == status


def test_it_can_be_stopped_twice_and_started_again():
    sandbox = Sandbox().start()
    sandbox.stop()
    sandbox.stop()
    with sandbox:
        assert sandbox.tasks() == []


def test_starting_it_twice_is_refused():
    with Sandbox() as sandbox, pytest.raises(AgentTaskError, match="already running"):
        sandbox.start()


def test_stopping_does_not_wait_for_streams_delays_idle_connections_or_webhooks():
    with requests.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("error")
        threads_before = threading.active_count()
        sandbox = Sandbox().start()
        session.headers["Authorization"] = f"Bearer {sandbox.api_key}"
        body = {"instruction": '#sandbox {"step_seconds": 60}'}
        stream = session.post(f"{sandbox.url}/agent/tasks/stream", json=body, stream=True, timeout=10)
        lines = stream.iter_lines()
        assert next(lines).startswith(b"data: ")
        hook = {
            "message": body["instruction"],
            "callback_mode": "webhook",
            "webhook_url": "http://127.0.0.1:1",
        }
        session.post(f"{sandbox.url}/agent/request/agt_a", json=hook, timeout=10)
        sandbox.faults([{"delay_seconds": 60}])
        waiting = threading.Thread(target=_ask_until_cut_off, args=(sandbox.url,))
        waiting.start()
        while len(sandbox.requests()) < 3:
            pass
        before = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - before < 30  # half of what the delayed request still has to wait
        waiting.join()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(lines)
        stream.close()
        assert threading.active_count() == threads_before


def _ask_until_cut_off(url: str) -> None:
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"{url}/agent/tasks/x", timeout=10)


@pytest.mark.filterwarnings("error")
def test_it_leaves_nothing_open(recwarn):
    with Sandbox() as sandbox:
        sandbox.faults([{"drop": "before"}])
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(f"{sandbox.url}/agent/tasks/x", timeout=10)
        with requests.get(f"{sandbox.url}/agent/tasks/x", timeout=10):
            pass
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


def test_a_port_in_use_is_explained():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            Sandbox(port=port).start()


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("203.0.113.1", 0), ("no.such.host.invalid", 0)]
)
def test_an_address_of_another_machine_is_explained(host, port):
    with pytest.raises(OSError, match="cannot listen on"):
        Sandbox(host, port).start()


def test_an_empty_key_is_refused():
    with pytest.raises(AgentTaskArgumentError, match="api_key"):
        Sandbox(api_key="")


def test_it_can_listen_on_ipv6():
    with Sandbox("::1") as sandbox:
        assert sandbox.url.startswith("http://[::1]:")
        assert requests.get(f"{sandbox.url}/agent/tasks/x", timeout=10).status_code == 401


def test_listening_everywhere_gives_an_address_that_answers():
    with Sandbox("0.0.0.0") as sandbox:  # noqa: S104
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert requests.get(f"{sandbox.url}/agent/tasks/x", timeout=10).status_code == 401
