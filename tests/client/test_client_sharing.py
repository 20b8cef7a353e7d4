"""One aiohttp session for each event loop and connection, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_agent_tasks.client.aio import share_client
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.protocol.http import Request
from tests.raw_server import RawServer, reply, silence

OK = reply(200, {"status": "running"})
TRIGGERS = 50
POLLS = 4

pytestmark = pytest.mark.filterwarnings(
    "error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _nothing_is_left_open(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert "Unclosed" not in caplog.text


async def poll(settings: ClientSettings, request: Request, times: int) -> Any:
    async with share_client(settings) as client:
        for _ in range(times):
            assert (await client.send(request, retries=False)).status == 200
            await asyncio.sleep(0)
    return client


def test_many_triggers_share_one_session_and_its_connections(
    serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(OK)

    async def run() -> set[int]:
        polls = [poll(settings_for(server), requests_to_send.status, POLLS) for _ in range(TRIGGERS)]
        return {id(client) for client in await asyncio.gather(*polls)}

    assert len(asyncio.run(run())) == 1
    assert len(server.requests) == TRIGGERS * POLLS
    assert server.connections <= TRIGGERS
    server.wait_until(lambda it: it.open_connections == 0)


def test_triggers_that_poll_one_after_the_other_use_one_connection(
    serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(OK)

    async def run() -> None:
        async with share_client(settings_for(server)):
            for _ in range(TRIGGERS):
                await poll(settings_for(server), requests_to_send.status, 1)

    asyncio.run(run())
    assert (len(server.requests), server.connections) == (TRIGGERS, 1)


def test_the_session_is_closed_after_its_last_user(
    serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(OK)

    async def run() -> None:
        async with share_client(settings_for(server)) as first:
            async with share_client(settings_for(server)) as second:
                await second.send(requests_to_send.status)
            assert second is first
            await first.send(requests_to_send.status)
            assert server.open_connections == 1
        await asyncio.to_thread(server.wait_until, lambda it: it.open_connections == 0)
        async with share_client(settings_for(server)) as third:
            assert third is not first
            await third.send(requests_to_send.status)

    asyncio.run(run())
    assert server.connections == 2


def test_other_settings_get_another_session(serve: Any, settings_for: Any) -> None:
    server = serve(OK)

    async def run() -> int:
        async with (
            share_client(settings_for(server)) as one,
            share_client(settings_for(server, timeout=7.0)) as two,
            share_client(ClientSettings(server.url, "sk_other", source="connection 'c1'")) as three,
        ):
            return len({id(one), id(two), id(three)})

    assert asyncio.run(run()) == 3


def test_each_event_loop_has_its_own_session(serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    server = serve(OK)
    for _ in range(2):
        asyncio.run(poll(settings_for(server), requests_to_send.status, 2))
    assert (len(server.requests), server.connections) == (4, 2)


def test_a_session_that_cannot_be_made_leaves_nothing_behind(settings_for: Any, tmp_path: Any) -> None:
    settings = settings_for("https://api.example.com", verify=str(tmp_path / "missing.pem"))

    async def run() -> None:
        for _ in range(2):
            with pytest.raises(AgentTaskConfigurationError, match=r"missing\.pem"):
                async with share_client(settings):
                    pass

    asyncio.run(run())


def test_a_user_that_fails_closes_the_session(serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    server = serve(OK)

    async def run() -> None:
        async with share_client(settings_for(server)) as client:
            await client.send(requests_to_send.status)
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(run())
    server.wait_until(lambda it: it.open_connections == 0)


@pytest.mark.parametrize("users", [1, 20])
def test_cancelling_while_sending_leaves_nothing_open(
    users: int, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server: RawServer = serve(silence)

    async def run() -> None:
        tasks = [
            asyncio.create_task(poll(settings_for(server), requests_to_send.status, 1)) for _ in range(users)
        ]
        await asyncio.to_thread(server.wait_until, lambda it: len(it.requests) == users)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
        await asyncio.to_thread(server.wait_until, lambda it: it.open_connections == 0)

    asyncio.run(run())


def test_cancelling_one_of_two_leaves_the_other_alone(
    serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server: RawServer = serve(silence, OK)

    async def run() -> None:
        async with share_client(settings_for(server)) as client:
            task = asyncio.create_task(poll(settings_for(server), requests_to_send.status, 1))
            await asyncio.to_thread(server.wait_until, lambda it: len(it.requests) == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await client.send(requests_to_send.status)).status == 200

    asyncio.run(run())


def test_the_limit_of_requests_is_shared_too(serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    server = serve(OK)
    settings = settings_for(server, requests_per_second=20)

    async def run() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*[poll(settings, requests_to_send.status, 1) for _ in range(5)])
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(run()) >= 4 / 20 - 0.01
