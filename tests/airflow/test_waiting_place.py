"""Many who wait at one connection: one look-up, one session, one limit, and one silence for them all."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import connector, web
from aiohttp.test_utils import TestServer
from airflow.sdk import BaseHook

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskConfigurationError,
    AgentTaskConnectionNotFoundError,
    AgentTaskHeldBackError,
    AgentTaskRateLimitedError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.lifecycle.wait_policy import LONGEST_WAIT
from airflow_agent_tasks.polling import circuit_breaker as silence_module
from airflow_agent_tasks.polling import connection_cache
from airflow_agent_tasks.polling.shared_poller import enter_place
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger
from tests.raw_server import NETWORK_VARIABLES, RawServer, reply, silence

OK = reply(200, {"status": "running"})
TRIGGERS = 50
POLLS = 4

pytestmark = pytest.mark.filterwarnings(
    "error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _nothing_is_left_open(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> Iterator[None]:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    gc.collect()
    assert "Unclosed" not in caplog.text


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    with ExitStack() as servers:
        yield lambda *replies: servers.enter_context(RawServer(*replies))


@pytest.fixture
def connect(monkeypatch: Any) -> Callable[..., None]:
    def connect(server: RawServer | str, key: str = "sk_1", **extra: Any) -> None:
        url = server if isinstance(server, str) else server.url
        connection = {"conn_type": "lightcone", "host": url, "password": key, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_C1", json.dumps(connection))

    return connect


@pytest.fixture
def look_ups(monkeypatch: Any) -> list[str]:
    """The connections that Airflow was asked for."""
    found: list[str] = []
    look_up = BaseHook.aget_connection

    async def count(conn_id: str) -> Any:
        found.append(conn_id)
        await asyncio.sleep(0.05)
        return await look_up(conn_id)

    monkeypatch.setattr(BaseHook, "aget_connection", count)
    return found


async def poll(times: int = 1) -> None:
    async with enter_place("c1") as place:
        for _ in range(times):
            await place.ask("tsk_1", None)
            await asyncio.sleep(0)


async def end(server: RawServer, requests: int) -> None:
    await asyncio.to_thread(server.wait_until, lambda it: len(it.requests) == requests)


async def ask_at_once(place: Any) -> list[Any]:
    """Return what each of many who ask at the same time gets, an agent task or an error."""
    asked = [place.ask(f"tsk_{number}", None) for number in range(TRIGGERS)]
    return list(await asyncio.gather(*asked, return_exceptions=True))


async def ask_until_looked_up(place: Any, look_ups: list[str]) -> None:
    """Ask until the connection was looked up in the background some times."""
    while len(look_ups) < 4:
        await place.ask("tsk_1", None)


async def renew_twice(
    shared: connection_cache.SharedHook, is_asked: asyncio.Event, may_go_on: asyncio.Event, ticks: int
) -> list[asyncio.Task[None]]:
    """Begin a look-up, and another so many turns of the loop after the first may go on; return both."""
    first = asyncio.create_task(shared.renew())
    await is_asked.wait()
    may_go_on.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    return [first, asyncio.create_task(shared.renew())]


def inside(work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run something within the place."""

    async def run() -> Any:
        async with enter_place("c1") as place:
            return await work(place)

    return asyncio.run(run())


def test_many_triggers_share_one_look_up_one_session_and_its_connections(
    serve: Any, connect: Any, look_ups: list[str]
) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        await asyncio.gather(*[poll(POLLS) for _ in range(TRIGGERS)])

    asyncio.run(run())
    assert look_ups == ["c1"]
    assert len(server.requests) == TRIGGERS * POLLS
    assert server.connections <= TRIGGERS
    server.wait_until(lambda it: it.open_connections == 0)


def test_triggers_whose_checks_never_meet_share_one_look_up_too(
    serve: Any, connect: Any, look_ups: list[str]
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
    assert look_ups == ["c1"]
    assert server.connections == 1


def test_triggers_that_ask_one_after_the_other_use_one_connection(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        async with enter_place("c1"):
            for _ in range(TRIGGERS):
                await poll()

    asyncio.run(run())
    assert (len(server.requests), server.connections) == (TRIGGERS, 1)


def test_the_connections_are_closed_after_the_last_user(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        async with enter_place("c1") as first:
            async with enter_place("c1") as second:
                assert second is first
                await second.ask("tsk_1", None)
            await first.ask("tsk_1", None)
            assert server.open_connections == 1
        await asyncio.to_thread(server.wait_until, lambda it: it.open_connections == 0)
        await poll()

    asyncio.run(run())
    assert server.connections == 2


def test_each_event_loop_has_its_own(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)
    for _ in range(2):
        asyncio.run(poll(2))
    assert (len(server.requests), server.connections) == (4, 2)


def test_a_client_that_cannot_be_opened_leaves_nothing_behind(connect: Any, tmp_path: Any) -> None:
    connect("https://api.example.com", verify=str(tmp_path / "missing.pem"))

    async def ask_twice(place: Any) -> None:
        for _ in range(2):
            with pytest.raises(AgentTaskConfigurationError, match=r"missing\.pem"):
                await place.ask("tsk_1", None)

    inside(ask_twice)


def test_a_user_that_fails_closes_the_connections(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server)

    async def fail(place: Any) -> None:
        await place.ask("tsk_1", None)
        raise LookupError

    with pytest.raises(LookupError):
        inside(fail)
    server.wait_until(lambda it: it.open_connections == 0)


@pytest.mark.parametrize("users", [1, 20])
def test_cancelling_while_asking_leaves_nothing_open(users: int, serve: Any, connect: Any) -> None:
    server = serve(OK, silence)
    connect(server)

    async def run() -> None:
        async with enter_place("c1") as place:
            await place.ask("tsk_1", None)
            tasks = [asyncio.create_task(poll()) for _ in range(users)]
            await end(server, users + 1)
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
        await asyncio.to_thread(server.wait_until, lambda it: it.open_connections == 0)

    asyncio.run(run())


def test_cancelling_everybody_during_the_look_up_leaves_nothing_behind(
    serve: Any, connect: Any, monkeypatch: Any
) -> None:
    server = serve(OK)
    connect(server)

    async def run() -> None:
        began = asyncio.Event()

        async def hang(conn_id: str) -> None:
            began.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(BaseHook, "aget_connection", hang)
            tasks = [asyncio.create_task(poll()) for _ in range(3)]
            await began.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await poll()

    asyncio.run(run())
    assert len(server.requests) == 1


def test_one_that_is_cancelled_keeps_nobody_from_asking(serve: Any, connect: Any) -> None:
    server = serve(silence, OK)
    connect(server)

    async def work(place: Any) -> Any:
        task = asyncio.create_task(poll())
        await end(server, 1)
        task.cancel()
        return await place.ask("tsk_1", None)

    assert inside(work).status == "running"


def test_the_connection_is_looked_up_again_in_the_background(
    serve: Any, connect: Any, look_ups: list[str], monkeypatch: Any
) -> None:
    server = serve(OK)
    connect(server, key="sk_old")
    monkeypatch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)

    async def work(place: Any) -> None:
        await place.ask("tsk_1", None)
        connect(server, key="sk_new")
        while server.requests[-1].headers["authorization"] == "Bearer sk_old":
            await place.ask("tsk_1", None)

    inside(work)
    assert len(look_ups) >= 2
    server.wait_until(lambda it: it.open_connections == 0)


class Doorkeeper:
    """A service that takes one key only, and counts how often it was shown which."""

    def __init__(self, connect: Callable[..., None]) -> None:
        self.shown: Counter[str] = Counter()
        self._connect = connect
        self._server = TestServer(web.Application())
        self._server.app.router.add_get("/agent/tasks/{id}", self._answer)
        self.key = "sk_old"
        self.answers = asyncio.Event()
        self.answers.set()

    async def __aenter__(self) -> Doorkeeper:
        await self._server.start_server()
        self.connect("sk_old")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def connect(self, key: str, **extra: Any) -> None:
        self._connect(str(self._server.make_url("/")), key=key, **extra)

    async def _answer(self, request: web.Request) -> web.Response:
        key = request.headers["authorization"].removeprefix("Bearer ")
        self.shown[key] += 1
        await self.answers.wait()
        if key != self.key:
            return web.json_response({"error": "no such key"}, status=401)
        return web.json_response({"status": "running"})


def test_a_key_that_was_changed_is_found_at_once_after_a_401(connect: Any, look_ups: list[str]) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with Doorkeeper(connect) as service, enter_place("c1") as place:
            await place.ask("tsk_1", None)
            service.key = "sk_new"
            service.connect("sk_new")
            outcomes = await ask_at_once(place)
            await asyncio.gather(*[place.ask("tsk_1", None) for _ in range(TRIGGERS)])
            return outcomes, service.shown

    outcomes, shown = asyncio.run(run())
    assert look_ups == ["c1", "c1"]
    # One has found it for all the others, who are still waiting, and ask again by themselves.
    answered = [one for one in outcomes if isinstance(one, AgentTask)]
    assert len(answered) == 1
    assert {type(one) for one in outcomes if one not in answered} == {AgentTaskHeldBackError}
    assert shown["sk_new"] == 1 + TRIGGERS


def test_a_look_up_that_began_before_the_key_was_changed_is_not_believed(
    connect: Any, monkeypatch: Any
) -> None:
    look_up = BaseHook.aget_connection

    async def run() -> None:
        began = asyncio.Event()

        async def read_and_hang(conn_id: str) -> None:
            await look_up(conn_id)
            began.set()
            await asyncio.Event().wait()

        async with Doorkeeper(connect) as service, enter_place("c1") as place:
            await place.ask("tsk_1", None)
            service.key = "sk_new"
            service.answers.clear()
            with monkeypatch.context() as patch:
                patch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)
                patch.setattr(BaseHook, "aget_connection", read_and_hang)
                asking = asyncio.create_task(place.ask("tsk_1", None))
                await began.wait()
            service.connect("sk_new")
            service.answers.set()
            assert (await asking).status == "running"

    asyncio.run(run())


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_key_that_is_refused_ends_one_wait_and_holds_the_others_back(
    connect: Any, look_ups: list[str], monkeypatch: Any, is_gone: bool
) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with Doorkeeper(connect) as service, enter_place("c1") as place:
            service.connect("sk_old", requests_per_second=50)
            await place.ask("tsk_1", None)
            service.key = "sk_new"
            if is_gone:
                monkeypatch.delenv("AIRFLOW_CONN_C1")
            service.shown.clear()
            return await ask_at_once(place), service.shown

    outcomes, shown = asyncio.run(run())
    final = [outcome for outcome in outcomes if outcome.is_final]
    assert [type(one) for one in final] == [AgentTaskAuthenticationError]
    assert {type(one) for one in outcomes if one not in final} == {AgentTaskHeldBackError}
    # Those under way at the same time cannot be called back; here it is one at a time.
    assert shown == {"sk_old": 1}
    assert len(look_ups) == 2


def test_a_refused_key_is_not_shown_to_stop_many_either(connect: Any) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with Doorkeeper(connect) as service, enter_place("c1") as place:
            await place.ask("tsk_1", None)
            service.key = "sk_new"
            service.shown.clear()
            with pytest.raises(AgentTaskAuthenticationError):
                await place.ask("tsk_1", None)
            stops = [place.stop(f"tsk_{number}", None) for number in range(TRIGGERS)]
            return list(await asyncio.gather(*stops, return_exceptions=True)), service.shown

    outcomes, shown = asyncio.run(run())
    assert {type(one) for one in outcomes} == {AgentTaskHeldBackError}
    assert shown == {"sk_old": 1}


def test_a_new_key_that_is_wrong_as_well_is_shown_once(connect: Any) -> None:
    async def run() -> tuple[list[Any], Counter[str]]:
        async with Doorkeeper(connect) as service, enter_place("c1") as place:
            await place.ask("tsk_1", None)
            service.key = "sk_new"
            service.connect("sk_mistyped")
            return await ask_at_once(place), service.shown

    outcomes, shown = asyncio.run(run())
    assert sum(outcome.is_final for outcome in outcomes) == 1
    assert shown["sk_mistyped"] == 1


def test_a_refused_key_is_looked_up_although_that_was_done_while_it_was_on_its_way(
    connect: Any, look_ups: list[str], monkeypatch: Any
) -> None:
    async def run() -> Any:
        async with Doorkeeper(connect) as service, enter_place("c1") as place:
            await place.ask("tsk_1", None)
            service.answers.clear()
            monkeypatch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)
            asking = asyncio.create_task(place.ask("tsk_1", None))
            await asyncio.sleep(0)
            await asyncio.wait([task for task in asyncio.all_tasks() if "_look_up_once" in repr(task)])
            monkeypatch.setattr(connection_cache, "LOOK_UP_EVERY", 60.0)
            service.key = "sk_new"
            service.connect("sk_new")
            service.answers.set()
            return await asking

    assert asyncio.run(run()).status == "running"
    assert len(look_ups) == 3


@pytest.mark.parametrize("ticks", range(6))
def test_a_look_up_that_fails_in_the_moment_of_its_renewal_ends_nobodys_wait(
    serve: Any, connect: Any, monkeypatch: Any, ticks: int
) -> None:
    connect(serve(OK))
    look_up, asked = connection_cache.afind_hook, []

    async def run() -> None:
        is_asked, is_refused, is_told = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def find(conn_id: str) -> Any:
            asked.append(conn_id)
            if len(asked) == 1:
                is_asked.set()
                await is_refused.wait()
                raise RuntimeError("down")
            await is_told.wait()
            return await look_up(conn_id)

        monkeypatch.setattr(connection_cache, "afind_hook", find)
        shared = connection_cache.SharedHook("c1")
        renewals = await renew_twice(shared, is_asked, is_refused, ticks)
        for _ in range(10):
            await asyncio.sleep(0)
        finding = asyncio.create_task(shared.find())
        await asyncio.sleep(0)
        is_told.set()
        await asyncio.gather(finding, *renewals)
        await shared.close()

    asyncio.run(run())
    assert len(asked) == 2


def test_one_who_gives_up_does_not_end_the_look_up_of_the_others(
    serve: Any, connect: Any, look_ups: list[str]
) -> None:
    connect(serve(OK))

    async def work(place: Any) -> Any:
        first, second = (asyncio.create_task(place.ask("tsk_1", None)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert inside(work).status == "running"
    assert look_ups == ["c1"]


def test_the_key_in_the_environment_does_not_stand_in_for_a_connection_that_was_there(
    serve: Any, connect: Any, monkeypatch: Any, caplog: Any
) -> None:
    server = serve(OK)
    connect(server)
    connection = os.environ["AIRFLOW_CONN_C1"]
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTCONE_DEFAULT", connection)
    monkeypatch.setenv("TZAFON_API_KEY", "sk_of_another_account")
    monkeypatch.setenv("LIGHTCONE_BASE_URL", server.url)

    async def run() -> None:
        async with enter_place("lightcone_default") as place:
            await place.ask("tsk_1", None)
            monkeypatch.delenv("AIRFLOW_CONN_LIGHTCONE_DEFAULT")
            monkeypatch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)
            while "used as it was last seen" not in caplog.text:
                await place.ask("tsk_1", None)
                assert server.requests[-1].headers["authorization"] == "Bearer sk_1"
            await place.ask("tsk_1", None)

    asyncio.run(run())
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk_1"}


@pytest.mark.parametrize("ticks", range(6))
def test_a_look_up_that_is_renewed_in_the_moment_of_its_reply_is_not_believed(
    serve: Any, connect: Any, monkeypatch: Any, ticks: int
) -> None:
    connect(serve(OK))
    look_up, found = connection_cache.afind_hook, []

    async def run() -> None:
        is_asked, is_told = asyncio.Event(), asyncio.Event()

        async def find(conn_id: str) -> Any:
            hook = await look_up(conn_id)
            found.append(hook)
            is_asked.set()
            await is_told.wait()
            return hook

        monkeypatch.setattr(connection_cache, "afind_hook", find)
        shared = connection_cache.SharedHook("c1")
        renewals = await renew_twice(shared, is_asked, is_told, ticks)
        await asyncio.gather(*renewals)
        assert await shared.find() is found[-1]
        await shared.close()

    asyncio.run(run())


def test_a_connection_that_was_changed_is_tried_by_one_first(connect: Any, monkeypatch: Any) -> None:
    async def run() -> list[Any]:
        async with Doorkeeper(connect) as service, enter_place("c1") as place:
            await place.ask("tsk_1", None)
            service.connect("sk_mistyped")
            with monkeypatch.context() as patch:
                patch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)
                asking = asyncio.create_task(place.ask("tsk_1", None))
                await asyncio.sleep(0)
                await asyncio.wait([task for task in asyncio.all_tasks() if "_look_up_once" in repr(task)])
                await asking
            service.answers.clear()
            first, *others = [asyncio.create_task(place.ask("tsk_1", None)) for _ in range(TRIGGERS)]
            outcomes = await asyncio.gather(*others, return_exceptions=True)
            service.answers.set()
            assert (await asyncio.gather(first, return_exceptions=True))[0].is_final
            return list(outcomes)

    assert {type(one) for one in asyncio.run(run())} == {AgentTaskHeldBackError}


def test_a_task_is_stopped_although_the_connection_is_changed_while_it_waits_for_a_turn(
    serve: Any, connect: Any, monkeypatch: Any
) -> None:
    server = serve(OK)
    connect(server, requests_per_second=2)

    async def work(place: Any) -> None:
        await place.ask("tsk_1", None)
        stopping = asyncio.create_task(place.stop("tsk_1", None))
        await asyncio.sleep(0)
        connect(server, key="sk_new", requests_per_second=2)
        with monkeypatch.context() as patch:
            patch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)
            asking = asyncio.create_task(place.ask("tsk_1", None))
            await asyncio.sleep(0)
        await asyncio.gather(stopping, asking)

    inside(work)
    (stop,) = [request for request in server.requests if request.method == "POST"]
    assert stop.headers["authorization"] == "Bearer sk_new"


@pytest.mark.parametrize("refusal", [reply(403), reply(404), reply(422)])
def test_what_is_said_of_one_agent_task_holds_nobody_else_back(
    serve: Any, connect: Any, refusal: bytes
) -> None:
    server = serve(*[refusal] * 5, OK)
    connect(server)

    async def work(place: Any) -> Any:
        await asyncio.gather(*[place.ask("tsk_1", None) for _ in range(5)], return_exceptions=True)
        return await place.ask("tsk_2", None)

    assert inside(work).status == "running"


def test_429_holds_everybody_back_for_as_long_as_the_service_says(serve: Any, connect: Any) -> None:
    server = serve(reply(429, retry_after="20"), OK)
    connect(server)

    async def work(place: Any) -> list[float]:
        with pytest.raises(AgentTaskRateLimitedError):
            await place.ask("tsk_1", None)
        told = []
        for _ in range(TRIGGERS):
            with pytest.raises(AgentTaskHeldBackError) as caught:
                await place.ask("tsk_2", None)
            told.append(caught.value.retry_after)
        return told

    told = inside(work)
    assert len(server.requests) == 1
    assert min(told) > 19
    assert max(told) < 41
    # Each hears of another moment: they do not all come back in the same one.
    assert len({round(seconds, 3) for seconds in told}) > TRIGGERS / 2


def test_who_waits_for_a_turn_is_held_back_too(serve: Any, connect: Any) -> None:
    server = serve(OK, reply(429, retry_after="40"), OK)
    connect(server, requests_per_second=2)

    async def work(place: Any) -> tuple[list[Any], float]:
        await place.ask("tsk_1", None)
        began = asyncio.get_running_loop().time()
        asked = [place.ask("tsk_1", None) for _ in range(TRIGGERS)]
        outcomes = list(await asyncio.gather(*asked, return_exceptions=True))
        return outcomes, asyncio.get_running_loop().time() - began

    outcomes, seconds = inside(work)
    assert [type(one) for one in outcomes].count(AgentTaskHeldBackError) == TRIGGERS - 1
    assert len(server.requests) == 2
    # The turns in which nothing was asked were not waited for: fifty of them would take 25 seconds.
    assert seconds < 10


def test_a_service_that_fails_again_and_again_is_left_alone_until_one_was_answered(
    serve: Any, connect: Any, monkeypatch: Any
) -> None:
    server = serve(*[reply(503)] * 3, OK)
    connect(server)
    monkeypatch.setattr(silence_module, "SECONDS_UNANSWERED", 0.0)

    async def work(place: Any) -> None:
        for _ in range(3):
            with pytest.raises(AgentTaskUnavailableError):
                await place.ask("tsk_1", None)
        outcomes = await asyncio.gather(
            *[place.ask("tsk_1", None) for _ in range(TRIGGERS)], return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {AgentTaskHeldBackError}
        assert len(server.requests) == 3
        while len(server.requests) == 3:
            await asyncio.gather(place.ask("tsk_1", None), return_exceptions=True)
            await asyncio.sleep(0.02)
        await asyncio.gather(*[place.ask("tsk_1", None) for _ in range(TRIGGERS)])

    inside(work)
    assert len(server.requests) == 4 + TRIGGERS


def test_a_connection_that_cannot_be_read_is_looked_up_by_one_for_all(look_ups: list[str]) -> None:
    async def work(place: Any) -> list[Any]:
        outcomes: list[Any] = []
        for _ in range(2):
            outcomes += await ask_at_once(place)
        return outcomes

    assert {type(outcome) for outcome in inside(work)} == {AgentTaskConnectionNotFoundError}
    assert look_ups == ["c1"]


def test_a_connection_that_could_be_read_once_serves_while_it_cannot(
    serve: Any, connect: Any, look_ups: list[str], monkeypatch: Any
) -> None:
    server = serve(OK)
    connect(server)
    monkeypatch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)

    async def work(place: Any) -> None:
        await place.ask("tsk_1", None)
        monkeypatch.delenv("AIRFLOW_CONN_C1")
        await ask_until_looked_up(place, look_ups)

    inside(work)


def test_airflow_that_never_tells_the_connection_is_not_waited_for_for_ever(monkeypatch: Any) -> None:
    async def hang(conn_id: str) -> None:
        await asyncio.Event().wait()

    async def work(place: Any) -> None:
        with pytest.raises(AgentTaskConnectionNotFoundError):
            await place.ask("tsk_1", None)

    monkeypatch.setattr(BaseHook, "aget_connection", hang)
    monkeypatch.setattr(connection_cache, "LOOK_UP_TIMEOUT", 0.1)
    inside(work)


def test_what_the_triggerer_may_not_read_ends_in_an_error_of_ours(monkeypatch: Any) -> None:
    async def refuse(conn_id: str) -> None:
        raise PermissionError("not for you")

    async def work(place: Any) -> None:
        for _ in range(2):
            with pytest.raises(AgentTaskConnectionNotFoundError):
                await place.ask("tsk_1", None)

    monkeypatch.setattr(BaseHook, "aget_connection", refuse)
    inside(work)


def test_other_settings_begin_with_a_clean_sheet(serve: Any, connect: Any, monkeypatch: Any) -> None:
    down, up = serve(reply(429, retry_after="3000")), serve(OK)
    connect(down)

    async def work(place: Any) -> None:
        with pytest.raises(AgentTaskRateLimitedError):
            await place.ask("tsk_1", None)
        connect(up)
        monkeypatch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)
        while not up.requests:
            await asyncio.gather(place.ask("tsk_1", None), return_exceptions=True)

    inside(work)
    assert len(down.requests) == 1


def test_the_limit_of_requests_holds_for_all_and_from_the_first_one(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server, requests_per_second=20)

    async def work(place: Any) -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*[place.ask("tsk_1", None) for _ in range(9)])
        return asyncio.get_running_loop().time() - began

    assert inside(work) >= 8 / 20 - 0.01
    assert len(server.requests) == 9


def test_who_has_not_asked_for_longest_goes_first(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server, requests_per_second=50)
    since = [5.0, 3.0, 9.0, 1.0, 7.0]

    async def work(place: Any) -> None:
        await place.ask("first", None)
        await asyncio.gather(*[place.ask(f"tsk_{moment:.0f}", None, since=moment) for moment in since])

    inside(work)
    asked = [received.target.rpartition("/")[2] for received in server.requests]
    assert asked == ["first", "tsk_1", "tsk_3", "tsk_5", "tsk_7", "tsk_9"]


def test_an_agent_task_is_stopped_while_the_service_is_left_alone(serve: Any, connect: Any) -> None:
    server = serve(reply(429, retry_after="40"), OK)
    connect(server)

    async def work(place: Any) -> None:
        with pytest.raises(AgentTaskRateLimitedError):
            await place.ask("tsk_1", None)
        await place.stop("tsk_1", None)

    inside(work)
    assert [received.method for received in server.requests] == ["GET", "POST"]


def test_a_look_up_that_fails_in_a_way_of_its_own_is_one_for_all_and_waited_out(
    connect: Any, serve: Any, monkeypatch: Any, caplog: Any
) -> None:
    server, looked_up = serve(OK), []
    connect(server)

    async def fail(conn_id: str) -> None:
        looked_up.append(conn_id)
        raise RuntimeError("token=sk_abc")

    async def work(place: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(BaseHook, "aget_connection", fail)
            for _ in range(2):
                assert {type(one) for one in await ask_at_once(place)} == {AgentTaskConnectionNotFoundError}
            assert len(looked_up) == 1
            patch.setattr(connection_cache, "FAILURE_KEPT", 0.0)
            await ask_at_once(place)
        monkeypatch.setattr(connection_cache, "FAILURE_KEPT", 0.0)
        await place.ask("tsk_1", None)

    inside(work)
    assert "The look-up of connection 'c1' failed: RuntimeError" in caplog.text
    assert "sk_abc" not in caplog.text


def test_a_connection_that_was_changed_into_one_that_cannot_be_used_is_said_once(
    serve: Any, connect: Any, look_ups: list[str], monkeypatch: Any, caplog: Any
) -> None:
    server = serve(OK)
    connect(server)
    monkeypatch.setattr(connection_cache, "LOOK_UP_EVERY", 0.0)

    async def work(place: Any) -> None:
        await place.ask("tsk_1", None)
        connect(server, key="with a blank")
        await ask_until_looked_up(place, look_ups)

    inside(work)
    assert caplog.text.count("Connection 'c1' is used as it was last seen: The API key of") == 1
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk_1"}


def test_a_connection_is_kept_open_for_longer_than_the_longest_wait(
    serve: Any, connect: Any, monkeypatch: Any
) -> None:
    server = serve(OK)
    connect(server)

    async def work(place: Any) -> None:
        now = time.monotonic
        for polls in range(3):
            monkeypatch.setattr(
                connector, "monotonic", lambda later=polls * 1.5 * LONGEST_WAIT: now() + later
            )
            await place.ask("tsk_1", None)

    inside(work)
    assert (len(server.requests), server.connections) == (3, 1)
