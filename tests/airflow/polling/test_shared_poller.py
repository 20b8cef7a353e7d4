"""The shared poller: many agent tasks are polled with one lookup, one session and its connections."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import connector
from airflow.sdk import BaseHook

from airflow_agent_tasks.errors import AgentTaskConfigurationError, AgentTaskRateLimitedError
from airflow_agent_tasks.lifecycle.wait_policy import LONGEST_WAIT
from airflow_agent_tasks.polling.connection_cache import TTL
from airflow_agent_tasks.polling.shared_poller import use_poller
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger
from tests.airflow.polling.poller_service import LEAVES_NOTHING_OPEN, MANY, OK, Clock, poll, with_poller
from tests.raw_server import RawServer, reply, silence

POLLS = 4

pytestmark = LEAVES_NOTHING_OPEN


async def wait_for_requests(server: RawServer, count: int) -> None:
    await asyncio.to_thread(server.wait_until, lambda it: len(it.requests) == count)


def test_many_triggers_share_one_lookup_one_session_and_its_connections(
    serve: Any, connect: Any, lookups: Any
) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        await asyncio.gather(*[poll(POLLS) for _ in range(MANY)])

    asyncio.run(run())
    lookups.assert_awaited_once_with("c1")
    assert len(server.requests) == MANY * POLLS
    assert server.connections <= MANY
    server.wait_until(lambda it: it.open_connections == 0)


def test_triggers_whose_checks_never_overlap_share_one_lookup_too(
    serve: Any, connect: Any, lookups: Any
) -> None:
    server = serve(reply(200, {"status": "completed", "exit_code": 0}))
    connect(server)
    now = time.time()

    async def wait(number: int) -> None:
        trigger = AgentTaskTrigger(
            conn_id="c1", agent_task_id=f"tsk_{number}", started_at=now, not_before=now + 0.3 * (number + 1)
        )
        assert [event.payload["verdict"] async for event in trigger.run()] == ["reached"]

    async def run() -> None:
        await asyncio.gather(*[wait(number) for number in range(4)])

    asyncio.run(run())
    lookups.assert_awaited_once_with("c1")


def test_triggers_that_poll_one_after_the_other_use_one_connection(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        async with use_poller("c1"):
            for _ in range(MANY):
                await poll()

    asyncio.run(run())
    assert (len(server.requests), server.connections) == (MANY, 1)


def test_the_connections_close_after_the_last_user(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        async with use_poller("c1") as first:
            async with use_poller("c1") as second:
                assert second is first
                await second.get_task("tsk_1", None)
            await first.get_task("tsk_1", None)
            assert server.open_connections == 1
        await asyncio.to_thread(server.wait_until, lambda it: it.open_connections == 0)
        await poll()

    asyncio.run(run())
    assert server.connections == 2


def test_each_event_loop_has_its_own_poller(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)
    for _ in range(2):
        asyncio.run(poll(2))
    assert (len(server.requests), server.connections) == (4, 2)


def test_a_client_that_cannot_be_opened_leaves_nothing_behind(connect: Any, tmp_path: Any) -> None:
    connect("https://api.example.com", verify=str(tmp_path / "missing.pem"))

    async def check_twice(poller: Any) -> None:
        for _ in range(2):
            with pytest.raises(
                AgentTaskConfigurationError, match="The CA file set in the extra field 'verify'"
            ):
                await poller.get_task("tsk_1", None)

    with_poller(check_twice)


def test_a_user_that_fails_closes_the_connections(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)

    async def fail() -> None:
        async with use_poller("c1") as poller:
            await poller.get_task("tsk_1", None)
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(fail())
    server.wait_until(lambda it: it.open_connections == 0)


@pytest.mark.parametrize("users", [1, 20])
def test_cancelling_during_a_check_leaves_nothing_open(users: int, serve: Any, connect: Any) -> None:
    server = serve(OK, silence)
    connect(server)

    async def run() -> None:
        async with use_poller("c1") as poller:
            await poller.get_task("tsk_1", None)
            tasks = [asyncio.create_task(poll()) for _ in range(users)]
            await wait_for_requests(server, users + 1)
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
        await asyncio.to_thread(server.wait_until, lambda it: it.open_connections == 0)

    asyncio.run(run())


def test_cancelling_all_users_during_the_lookup_leaves_nothing_behind(
    serve: Any, connect: Any, mocker: Any
) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        began = asyncio.Event()

        async def hang(conn_id: str) -> None:
            began.set()
            await asyncio.Event().wait()

        lookup = mocker.patch.object(BaseHook, "aget_connection", side_effect=hang)
        tasks = [asyncio.create_task(poll()) for _ in range(3)]
        await began.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        mocker.stop(lookup)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await poll()

    asyncio.run(run())
    assert len(server.requests) == 1


def test_a_cancelled_check_does_not_block_the_others(serve: Any, connect: Any) -> None:
    server = serve(silence, OK)
    connect(server)

    async def run() -> Any:
        async with use_poller("c1") as poller:
            task = asyncio.create_task(poll())
            await wait_for_requests(server, 1)
            task.cancel()
            return await poller.get_task("tsk_1", None)

    assert asyncio.run(run()).status == "running"


def test_a_task_is_stopped_although_its_connection_changes_while_the_stop_waits_for_the_rate_limit(
    serve: Any, connect: Any
) -> None:
    server, clock = serve(OK), Clock()
    connect(server, requests_per_second=2)

    async def work(poller: Any) -> None:
        await poller.get_task("tsk_1", None)
        stopping = asyncio.create_task(poller.stop_task("tsk_1", None))
        await asyncio.sleep(0)
        connect(server, key="sk_new", requests_per_second=2)
        clock.advance(TTL)
        await asyncio.gather(stopping, poller.get_task("tsk_1", None))

    with_poller(work, clock=clock)
    (stop,) = [request for request in server.requests if request.method == "POST"]
    assert stop.headers["authorization"] == "Bearer sk_new"


def test_an_agent_task_is_stopped_while_the_circuit_is_open(serve: Any, connect: Any) -> None:
    server = serve(reply(429, retry_after="40"), OK)
    connect(server)

    async def work(poller: Any) -> None:
        with pytest.raises(AgentTaskRateLimitedError):
            await poller.get_task("tsk_1", None)
        await poller.stop_task("tsk_1", None)

    with_poller(work)
    assert [received.method for received in server.requests] == ["GET", "POST", "GET"]


def test_an_idle_connection_is_kept_for_longer_than_the_longest_poll_interval(
    serve: Any, connect: Any, mocker: Any
) -> None:
    server, clock = serve(OK), Clock()
    connect(server)
    # aiohttp takes no clock.
    mocker.patch.object(connector, "monotonic", clock)

    async def work(poller: Any) -> None:
        for _ in range(3):
            await poller.get_task("tsk_1", None)
            clock.advance(1.5 * LONGEST_WAIT)

    with_poller(work)
    assert (len(server.requests), server.connections) == (3, 1)
