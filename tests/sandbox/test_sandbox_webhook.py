from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_agent_tasks.sandbox.script import Script
from airflow_agent_tasks.sandbox.store import TaskStore, steady_clock
from airflow_agent_tasks.sandbox.tasks import SimulatedTask
from airflow_agent_tasks.sandbox.webhook import WebhookSender


class Receiver:
    """A web server that keeps what is posted to it, and answers while ``may_answer`` is set."""

    def __init__(self, server: ThreadingHTTPServer, posts: queue.Queue[dict[str, Any]]) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/hook"
        self.may_answer = threading.Event()
        self.may_answer.set()
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
            receiver.may_answer.wait()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        receiver = Receiver(server, posts)
        thread.start()
        yield receiver
        receiver.may_answer.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def submit(http: Any, scripted: Any, receiver: Receiver) -> Any:
    """Return a function that submits a task with this script, whose webhook is the receiver."""

    def submit(**script: Any) -> dict[str, Any]:
        return http.submit(scripted(**script), callback_mode="webhook", webhook_url=receiver.url)

    return submit


@pytest.fixture
def answer(http: Any, sandbox: Any, wait_until: Any) -> Any:
    """Return a function that waits for the first task's next question, and answers it."""

    def answer(accepted: dict[str, Any]) -> None:
        wait_until(lambda: sandbox.tasks()[0]["question"])
        http("POST", f"{accepted['poll_url']}/message", {"message": "go on"})

    return answer


@pytest.fixture
def deliveries(sandbox: Any, wait_until: Any) -> Any:
    """Return a function that waits until the first task has this many deliveries, and returns them."""

    def deliveries(count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(sandbox.tasks()[0]["webhook_deliveries"]) >= count)
        return sandbox.tasks()[0]["webhook_deliveries"]

    return deliveries


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


def test_a_question_is_delivered_even_if_it_is_no_longer_open(
    http, sandbox, submit, answer, receiver, wait_until
):
    receiver.may_answer.clear()
    accepted = submit(ask=["a", "b", "c"])
    receiver.next()
    answer(accepted)
    answer(accepted)
    wait_until(lambda: sandbox.tasks()[0]["question"])
    http("POST", accepted["cancel_url"])
    receiver.may_answer.set()
    assert [receiver.next()["status"] for _ in range(3)] == ["awaiting_input", "awaiting_input", "cancelled"]


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


def test_each_call_comes_twice_the_second_after_the_answer_to_the_first(
    http, sandbox, submit, answer, receiver, deliveries
):
    receiver.may_answer.clear()
    accepted = submit(callbacks="twice", ask=["a"])
    receiver.next()
    http("GET", accepted["poll_url"])
    receiver.may_answer.set()
    first, second = deliveries(2)
    assert first["time"] <= sandbox.requests()[-1]["time"] <= second["time"]
    answer(accepted)
    told = [one["body"]["status"] for one in deliveries(4)]
    assert told == ["awaiting_input", "awaiting_input", "completed", "completed"]


def test_late_calls_do_not_wait_for_each_other_and_tell_the_status_at_the_change(
    submit, answer, receiver, deliveries
):
    receiver.may_answer.clear()
    answer(submit(callbacks="late", callback_seconds=0.2, ask=["a"]))
    assert sorted(receiver.next()["status"] for _ in range(2)) == ["awaiting_input", "completed"]
    receiver.may_answer.set()
    assert [one["status"] for one in deliveries(2)] == [204, 204]


def test_a_late_call_comes_the_given_seconds_after_the_change(sandbox, submit, deliveries):
    submit(callbacks="late", callback_seconds=0.2)
    (delivery,) = deliveries(1)
    # However slow the machine is, never sooner.
    assert round(delivery["time"] - sandbox.tasks()[0]["ended_at"], 3) >= 0.2


def test_a_late_call_is_cancelled_when_all_deliveries_stop():
    async def scenario() -> None:
        store = TaskStore(steady_clock())
        sender = WebhookSender(store)
        script = Script(step_seconds=0, callbacks="late")
        await sender.watch(SimulatedTask("shinzo", script, {}, store.now()), "http://127.0.0.1:1/hook")
        (watcher,) = asyncio.all_tasks() - {asyncio.current_task()}
        await watcher
        (late,) = asyncio.all_tasks() - {asyncio.current_task()}
        sender.close()
        await asyncio.wait([late], timeout=1)
        assert late.cancelled()

    asyncio.run(scenario())


def test_an_early_call_comes_before_the_response_to_the_submission(sandbox, submit, receiver):
    receiver.may_answer.clear()
    with ThreadPoolExecutor() as pool:
        submission = pool.submit(submit, callbacks="early", queued_seconds=60)
        told = receiver.next()
        (request,) = sandbox.requests()
        receiver.may_answer.set()
    assert request["status"] is None
    assert told == {"task_id": submission.result()["task_id"], "agent_id": "agt_abc", "status": "queued"}


@pytest.mark.parametrize(("callbacks", "told"), [("early", ["running"]), ("never", [])])
def test_neither_a_question_nor_the_end_is_delivered_early_or_never(
    sandbox, submit, answer, receiver, wait_until, callbacks, told
):
    answer(submit(callbacks=callbacks, ask=["a"]))
    wait_until(lambda: sandbox.tasks()[0]["ended_at"])
    submit(exit_code=1)
    assert [receiver.next()["status"] for _ in [*told, "failed"]] == [*told, "failed"]
    assert [one["body"]["status"] for one in sandbox.tasks()[0]["webhook_deliveries"]] == told
    assert receiver.is_empty()


def test_reversed_calls_come_after_the_end_the_latest_change_first(submit, answer, receiver, deliveries):
    accepted = submit(callbacks="reversed", ask=["a", "b"], exit_code=1)
    answer(accepted)
    answer(accepted)
    told = ["failed", "awaiting_input", "awaiting_input"]
    assert [receiver.next()["status"] for _ in told] == told
    assert [one["body"]["status"] for one in deliveries(3)] == told
