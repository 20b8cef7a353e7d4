from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Receiver:
    """A web server that keeps what is posted to it."""

    def __init__(self, server: ThreadingHTTPServer, posts: queue.Queue[dict[str, Any]]) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/hook"
        self._posts = posts

    def next(self) -> dict[str, Any]:
        return self._posts.get(timeout=10)

    def is_empty(self) -> bool:
        return self._posts.empty()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    posts: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Receiver(server, posts)
        server.shutdown()
        thread.join()


def test_the_end_is_delivered_once(http, sandbox, scripted, receiver, wait_until):
    task_id = http.submit(scripted(), callback_mode="webhook", webhook_url=receiver.url)["task_id"]
    assert receiver.next() == {"task_id": task_id, "agent_id": "agt_abc", "status": "completed"}
    deliveries = wait_until(lambda: sandbox.tasks()[0]["webhook_deliveries"])
    assert [delivery["status"] for delivery in deliveries] == [204]
    assert receiver.is_empty()


def test_each_question_is_delivered_and_then_the_end(http, scripted, receiver):
    accepted = http.submit(
        scripted(ask=["a", "b"], exit_code=1), callback_mode="webhook", webhook_url=receiver.url
    )
    told = []
    for _ in range(3):
        told.append(receiver.next()["status"])
        if told[-1] == "awaiting_input":
            http("POST", f"{accepted['poll_url']}/message", {"message": "go on"})
    assert told == ["awaiting_input", "awaiting_input", "failed"]


def test_a_cancelled_task_is_delivered_at_once(http, scripted, receiver):
    accepted = http.submit(scripted(step_seconds=60), callback_mode="webhook", webhook_url=receiver.url)
    http("POST", accepted["cancel_url"])
    assert receiver.next()["status"] == "cancelled"


def test_an_address_that_does_not_answer_is_noted_and_harms_nothing(http, sandbox, scripted, wait_until):
    http.submit(scripted(step_seconds=0), callback_mode="webhook", webhook_url="http://127.0.0.1:1/hook")
    (delivery,) = wait_until(lambda: sandbox.tasks()[0]["webhook_deliveries"])
    assert "ClientConnectorError" in delivery["error"]
    assert sandbox.tasks()[0]["status"] == "completed"


def test_without_the_webhook_mode_nothing_is_sent(http, sandbox, scripted, receiver):
    http.submit(scripted(step_seconds=0), webhook_url=receiver.url)
    http.submit(scripted(step_seconds=0), callback_mode="webhook", webhook_url=receiver.url)
    receiver.next()
    assert sandbox.tasks()[0]["webhook_deliveries"] == []
    assert receiver.is_empty()


def test_a_forgotten_task_delivers_nothing(http, sandbox, scripted, receiver):
    http.submit(scripted(step_seconds=60), callback_mode="webhook", webhook_url=receiver.url)
    sandbox.forget()
    task_id = http.submit(scripted(step_seconds=0), callback_mode="webhook", webhook_url=receiver.url)[
        "task_id"
    ]
    assert receiver.next()["task_id"] == task_id
    assert receiver.is_empty()
