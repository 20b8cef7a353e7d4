"""The cached connection of a shared poller: single-flight lookups, and a refresh every minute."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from typing import Any

import pytest
from airflow.sdk import BaseHook

from airflow_agent_tasks.errors import AgentTaskConnectionNotFoundError
from airflow_agent_tasks.polling import connection_cache
from airflow_agent_tasks.polling.connection_cache import FAILURE_TTL, TTL, CachedHook
from airflow_agent_tasks.polling.shared_poller import SharedPoller
from tests.airflow.polling.poller_service import (
    LEAVES_NOTHING_OPEN,
    OK,
    Clock,
    KeyService,
    get_many,
    wait_for_refresh,
    with_poller,
)

pytestmark = LEAVES_NOTHING_OPEN


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def poll_until_refreshed(poller: Any, clock: Clock, lookups: Any) -> None:
    """Poll until the connection has been refreshed in the background some times."""
    while lookups.call_count < 4:
        clock.advance(TTL)
        await poller.get_task("tsk_1", None)


async def refresh_twice(
    cached: CachedHook, is_looking_up: asyncio.Event, may_finish: asyncio.Event, ticks: int
) -> list[asyncio.Task[None]]:
    """Begin a refresh, and another one some ticks of the loop after the first may finish; return both."""
    first = asyncio.create_task(cached.refresh())
    await is_looking_up.wait()
    may_finish.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    return [first, asyncio.create_task(cached.refresh())]


def test_the_connection_is_refreshed_in_the_background(
    serve: Any, connect: Any, lookups: Any, clock: Clock
) -> None:
    server = serve(OK)
    connect(server, key="sk_old")

    async def work(poller: Any) -> None:
        await poller.get_task("tsk_1", None)
        connect(server, key="sk_new")
        clock.advance(TTL - 1)
        await poller.get_task("tsk_1", None)
        assert lookups.call_count == 1
        clock.advance(1)
        await poller.get_task("tsk_1", None)
        await wait_for_refresh()
        await poller.get_task("tsk_1", None)

    with_poller(work, clock=clock)
    assert lookups.call_count == 2
    keys = [request.headers["authorization"] for request in server.requests]
    assert keys == ["Bearer sk_old"] * 3 + ["Bearer sk_new"]
    server.wait_until(lambda it: it.open_connections == 0)


def test_a_refresh_that_began_before_the_key_was_changed_is_discarded(
    connect: Any, mocker: Any, clock: Clock
) -> None:
    look_up = BaseHook.aget_connection

    async def run() -> None:
        began = asyncio.Event()

        async def read_and_hang(conn_id: str) -> None:
            await look_up(conn_id)
            began.set()
            await asyncio.Event().wait()

        async with KeyService(connect) as service, aclosing(SharedPoller("c1", clock=clock)) as poller:
            await poller.get_task("tsk_1", None)
            service.key = "sk_new"
            service.answers.clear()
            clock.advance(TTL)
            lookup = mocker.patch.object(BaseHook, "aget_connection", side_effect=read_and_hang)
            checking = asyncio.create_task(poller.get_task("tsk_1", None))
            await began.wait()
            mocker.stop(lookup)
            service.connect("sk_new")
            service.answers.set()
            assert (await checking).status == "running"

    asyncio.run(run())


def test_a_rejected_key_is_looked_up_although_a_refresh_ran_while_it_was_in_flight(
    connect: Any, lookups: Any, clock: Clock
) -> None:
    async def run() -> Any:
        async with KeyService(connect) as service, aclosing(SharedPoller("c1", clock=clock)) as poller:
            await poller.get_task("tsk_1", None)
            service.answers.clear()
            clock.advance(TTL)
            checking = asyncio.create_task(poller.get_task("tsk_1", None))
            await asyncio.sleep(0)
            await wait_for_refresh()
            service.key = "sk_new"
            service.connect("sk_new")
            service.answers.set()
            return await checking

    assert asyncio.run(run()).status == "running"
    assert lookups.call_count == 3


@pytest.mark.parametrize("ticks", range(6))
def test_a_lookup_that_fails_as_it_is_superseded_ends_no_wait(
    serve: Any, connect: Any, mocker: Any, ticks: int
) -> None:
    connect(serve(OK))
    look_up = connection_cache.afind_hook

    async def run() -> None:
        is_looking_up, may_fail, may_answer = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def find(conn_id: str) -> Any:
            if not is_looking_up.is_set():
                is_looking_up.set()
                await may_fail.wait()
                raise RuntimeError("down")
            await may_answer.wait()
            return await look_up(conn_id)

        lookup = mocker.patch.object(connection_cache, "afind_hook", side_effect=find)
        cached = CachedHook("c1")
        refreshes = await refresh_twice(cached, is_looking_up, may_fail, ticks)
        for _ in range(10):
            await asyncio.sleep(0)
        getting = asyncio.create_task(cached.get())
        await asyncio.sleep(0)
        may_answer.set()
        await asyncio.gather(getting, *refreshes)
        await cached.aclose()
        assert lookup.call_count == 2

    asyncio.run(run())


@pytest.mark.parametrize("ticks", range(6))
def test_a_lookup_that_is_superseded_as_it_returns_is_discarded(
    serve: Any, connect: Any, mocker: Any, ticks: int
) -> None:
    connect(serve(OK))
    look_up, found = connection_cache.afind_hook, []

    async def run() -> None:
        is_looking_up, may_answer = asyncio.Event(), asyncio.Event()

        async def find(conn_id: str) -> Any:
            hook = await look_up(conn_id)
            found.append(hook)
            is_looking_up.set()
            await may_answer.wait()
            return hook

        mocker.patch.object(connection_cache, "afind_hook", side_effect=find)
        cached = CachedHook("c1")
        await asyncio.gather(*await refresh_twice(cached, is_looking_up, may_answer, ticks))
        assert await cached.get() is found[-1]
        await cached.aclose()

    asyncio.run(run())


def test_a_caller_that_is_cancelled_does_not_cancel_the_lookup_of_the_others(
    serve: Any, connect: Any, lookups: Any
) -> None:
    connect(serve(OK))

    async def work(poller: Any) -> Any:
        first, second = (asyncio.create_task(poller.get_task("tsk_1", None)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert with_poller(work).status == "running"
    lookups.assert_awaited_once_with("c1")


def test_the_key_in_the_environment_does_not_replace_a_connection_that_existed(
    serve: Any, connect: Any, monkeypatch: Any, caplog: Any, clock: Clock
) -> None:
    server = serve(OK)
    connect(server)
    connection = os.environ["AIRFLOW_CONN_C1"]
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTCONE_DEFAULT", connection)
    monkeypatch.setenv("TZAFON_API_KEY", "sk_of_another_account")
    monkeypatch.setenv("LIGHTCONE_BASE_URL", server.url)

    async def run() -> None:
        async with aclosing(SharedPoller("lightcone_default", clock=clock)) as poller:
            await poller.get_task("tsk_1", None)
            monkeypatch.delenv("AIRFLOW_CONN_LIGHTCONE_DEFAULT")
            clock.advance(TTL)
            while "using its last state" not in caplog.text:
                await poller.get_task("tsk_1", None)
                assert server.requests[-1].headers["authorization"] == "Bearer sk_1"
            await poller.get_task("tsk_1", None)

    asyncio.run(run())
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk_1"}


def test_a_connection_that_cannot_be_read_is_looked_up_once_for_all(lookups: Any) -> None:
    async def work(poller: Any) -> list[Any]:
        return [*await get_many(poller), *await get_many(poller)]

    assert {type(outcome) for outcome in with_poller(work)} == {AgentTaskConnectionNotFoundError}
    lookups.assert_awaited_once_with("c1")


def test_a_connection_that_was_read_once_is_used_while_it_cannot_be_read(
    serve: Any, connect: Any, lookups: Any, monkeypatch: Any, clock: Clock
) -> None:
    connect(serve(OK))

    async def work(poller: Any) -> None:
        await poller.get_task("tsk_1", None)
        monkeypatch.delenv("AIRFLOW_CONN_C1")
        await poll_until_refreshed(poller, clock, lookups)

    with_poller(work, clock=clock)


def test_a_lookup_that_airflow_never_answers_times_out(mocker: Any) -> None:
    async def hang(conn_id: str) -> None:
        await asyncio.Event().wait()

    async def work(poller: Any) -> None:
        with pytest.raises(AgentTaskConnectionNotFoundError):
            await poller.get_task("tsk_1", None)

    mocker.patch.object(BaseHook, "aget_connection", side_effect=hang)
    mocker.patch.object(connection_cache, "LOOKUP_TIMEOUT", 0.1)
    with_poller(work)


def test_a_connection_that_the_triggerer_may_not_read_raises_an_error_of_ours(mocker: Any) -> None:
    async def work(poller: Any) -> None:
        for _ in range(2):
            with pytest.raises(AgentTaskConnectionNotFoundError):
                await poller.get_task("tsk_1", None)

    mocker.patch.object(BaseHook, "aget_connection", side_effect=PermissionError("not for you"))
    with_poller(work)


def test_a_lookup_that_raises_an_error_of_its_own_is_shared_and_repeated_later(
    connect: Any, serve: Any, mocker: Any, caplog: Any, clock: Clock
) -> None:
    connect(serve(OK))

    async def work(poller: Any) -> None:
        lookup = mocker.patch.object(BaseHook, "aget_connection", side_effect=RuntimeError("token=sk_abc"))
        for _ in range(2):
            assert {type(one) for one in await get_many(poller)} == {AgentTaskConnectionNotFoundError}
        assert lookup.call_count == 1
        clock.advance(FAILURE_TTL)
        await get_many(poller)
        assert lookup.call_count == 2
        mocker.stop(lookup)
        clock.advance(FAILURE_TTL)
        await poller.get_task("tsk_1", None)

    with_poller(work, clock=clock)
    assert "Looking up connection 'c1' failed: RuntimeError" in caplog.text
    assert "sk_abc" not in caplog.text


def test_a_connection_that_was_changed_into_an_unusable_one_is_logged_once(
    serve: Any, connect: Any, lookups: Any, caplog: Any, clock: Clock
) -> None:
    server = serve(OK)
    connect(server)

    async def work(poller: Any) -> None:
        await poller.get_task("tsk_1", None)
        connect(server, key="with a blank")
        await poll_until_refreshed(poller, clock, lookups)

    with_poller(work, clock=clock)
    message = "Refreshing connection 'c1' failed; using its last state: The API key of"
    assert caplog.text.count(message) == 1
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk_1"}
