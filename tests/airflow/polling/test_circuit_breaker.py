"""The circuit breaker with real requests: rejected keys, 429, and a service that is down."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskCircuitOpenError,
    AgentTaskRateLimitedError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.polling.circuit_breaker import FAILURE_SECONDS
from airflow_agent_tasks.polling.connection_cache import TTL
from airflow_agent_tasks.polling.shared_poller import SharedPoller
from tests.airflow.polling.poller_service import (
    LEAVES_NOTHING_OPEN,
    MANY,
    OK,
    Clock,
    KeyService,
    get_many,
    wait_for_refresh,
    with_poller,
)
from tests.raw_server import reply

pytestmark = LEAVES_NOTHING_OPEN


def test_a_changed_key_is_found_at_once_after_a_401(connect: Any, lookups: Any) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with KeyService(connect) as service, aclosing(SharedPoller("c1")) as poller:
            await poller.get_task("tsk_1", None)
            service.key = "sk_new"
            service.connect("sk_new")
            outcomes = await get_many(poller)
            await asyncio.gather(*[poller.get_task("tsk_1", None) for _ in range(MANY)])
            return outcomes, service.got

    outcomes, got = asyncio.run(run())
    assert lookups.call_count == 2
    # One found it for all the others, which keep waiting and retry by themselves.
    answered = [one for one in outcomes if isinstance(one, AgentTask)]
    assert len(answered) == 1
    assert {type(one) for one in outcomes if one not in answered} == {AgentTaskCircuitOpenError}
    assert got["sk_new"] == 1 + MANY


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_rejected_key_ends_one_wait_and_opens_the_circuit_for_the_others(
    connect: Any, lookups: Any, monkeypatch: Any, is_gone: bool
) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with KeyService(connect) as service, aclosing(SharedPoller("c1")) as poller:
            service.connect("sk_old", requests_per_second=5)
            await poller.get_task("tsk_1", None)
            service.key = "sk_new"
            if is_gone:
                monkeypatch.delenv("AIRFLOW_CONN_C1")
            service.got.clear()
            return await get_many(poller), service.got

    outcomes, got = asyncio.run(run())
    final = [outcome for outcome in outcomes if outcome.is_final]
    assert [type(one) for one in final] == [AgentTaskAuthenticationError]
    assert {type(one) for one in outcomes if one not in final} == {AgentTaskCircuitOpenError}
    # Requests in flight at the same time cannot be called back; the rate limit sends them one by one here.
    assert got == {"sk_old": 1}
    assert lookups.call_count == 2


def test_a_rejected_key_is_not_sent_to_stop_many_tasks_either(connect: Any) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with KeyService(connect) as service, aclosing(SharedPoller("c1")) as poller:
            await poller.get_task("tsk_1", None)
            service.key = "sk_new"
            service.got.clear()
            with pytest.raises(AgentTaskAuthenticationError):
                await poller.get_task("tsk_1", None)
            stops = [poller.stop_task(f"tsk_{number}", None) for number in range(MANY)]
            return list(await asyncio.gather(*stops, return_exceptions=True)), service.got

    outcomes, got = asyncio.run(run())
    assert {type(one) for one in outcomes} == {AgentTaskCircuitOpenError}
    assert got == {"sk_old": 1}


def test_a_new_key_that_is_wrong_as_well_is_sent_once(connect: Any) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with KeyService(connect) as service, aclosing(SharedPoller("c1")) as poller:
            await poller.get_task("tsk_1", None)
            service.key = "sk_new"
            service.connect("sk_mistyped")
            return await get_many(poller), service.got

    outcomes, got = asyncio.run(run())
    assert sum(outcome.is_final for outcome in outcomes) == 1
    assert got["sk_mistyped"] == 1


def test_a_changed_connection_is_probed_by_one_task_first(connect: Any, lookups: Any) -> None:
    clock = Clock()

    async def run() -> list[Any]:
        async with KeyService(connect) as service, aclosing(SharedPoller("c1", clock=clock)) as poller:
            await poller.get_task("tsk_1", None)
            service.connect("sk_mistyped")
            clock.advance(TTL)
            checking = asyncio.create_task(poller.get_task("tsk_1", None))
            await asyncio.sleep(0)
            await wait_for_refresh()
            await checking
            service.answers.clear()
            first, *others = [asyncio.create_task(poller.get_task("tsk_1", None)) for _ in range(MANY)]
            outcomes = await asyncio.gather(*others, return_exceptions=True)
            service.answers.set()
            assert (await asyncio.gather(first, return_exceptions=True))[0].is_final
            return list(outcomes)

    assert {type(one) for one in asyncio.run(run())} == {AgentTaskCircuitOpenError}


@pytest.mark.parametrize("refusal", [reply(403), reply(404), reply(422)])
def test_an_error_of_one_agent_task_does_not_open_the_circuit(
    serve: Any, connect: Any, refusal: bytes
) -> None:
    server = serve(*[refusal] * 5, OK)
    connect(server)

    async def work(poller: Any) -> Any:
        await asyncio.gather(*[poller.get_task("tsk_1", None) for _ in range(5)], return_exceptions=True)
        return await poller.get_task("tsk_2", None)

    assert with_poller(work).status == "running"


def test_429_opens_the_circuit_for_as_long_as_the_service_asks(serve: Any, connect: Any) -> None:
    server = serve(reply(429, retry_after="20"), OK)
    connect(server)

    async def work(poller: Any) -> list[float]:
        with pytest.raises(AgentTaskRateLimitedError):
            await poller.get_task("tsk_1", None)
        seconds = []
        for _ in range(MANY):
            with pytest.raises(AgentTaskCircuitOpenError) as caught:
                await poller.get_task("tsk_2", None)
            seconds.append(caught.value.retry_after)
        return seconds

    seconds = with_poller(work, clock=lambda: 0.0)
    assert len(server.requests) == 1
    assert min(seconds) > 19
    assert max(seconds) < 41
    # Spread, so that they do not all come back at once.
    assert len({round(one, 3) for one in seconds}) > MANY / 2


def test_requests_that_wait_for_the_rate_limit_are_rejected_too(serve: Any, connect: Any) -> None:
    server = serve(OK, reply(429, retry_after="40"), OK)
    connect(server, requests_per_second=2)

    async def work(poller: Any) -> tuple[list[Any], float]:
        await poller.get_task("tsk_1", None)
        began = asyncio.get_running_loop().time()
        return await get_many(poller), asyncio.get_running_loop().time() - began

    outcomes, seconds = with_poller(work)
    assert [type(one) for one in outcomes].count(AgentTaskCircuitOpenError) == MANY - 1
    assert len(server.requests) == 2
    # Rejected requests refund their slot: fifty slots would take 25 seconds.
    assert seconds < 10


def test_a_service_that_keeps_failing_is_probed_until_it_answers(serve: Any, connect: Any) -> None:
    server, clock = serve(*[reply(503)] * 3, OK), Clock()
    connect(server)

    async def work(poller: Any) -> None:
        for seconds in (0.0, 0.0, FAILURE_SECONDS):
            clock.advance(seconds)
            with pytest.raises(AgentTaskUnavailableError):
                await poller.get_task("tsk_1", None)
        assert {type(outcome) for outcome in await get_many(poller)} == {AgentTaskCircuitOpenError}
        assert len(server.requests) == 3
        while len(server.requests) == 3:
            await asyncio.gather(poller.get_task("tsk_1", None), return_exceptions=True)
            clock.advance(0.1)
        await asyncio.gather(*[poller.get_task("tsk_1", None) for _ in range(MANY)])

    with_poller(work, clock=clock)
    assert len(server.requests) == 4 + MANY


def test_changed_settings_start_with_a_new_circuit_breaker(serve: Any, connect: Any) -> None:
    down, up, clock = serve(reply(429, retry_after="3000")), serve(OK), Clock()
    connect(down)

    async def work(poller: Any) -> None:
        with pytest.raises(AgentTaskRateLimitedError):
            await poller.get_task("tsk_1", None)
        connect(up)
        clock.advance(TTL)
        while not up.requests:
            await asyncio.gather(poller.get_task("tsk_1", None), return_exceptions=True)

    with_poller(work, clock=clock)
    assert len(down.requests) == 1
