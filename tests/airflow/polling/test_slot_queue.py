"""How the tasks of a triggerer that wait for a slot have the free ones shared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_agent_tasks.airflow_compat.slot_orders import NO_LIMIT
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.polling import connection_cache, slot_queue
from airflow_agent_tasks.polling.slot_queue import SlotQueue, wait_while_limited
from airflow_agent_tasks.triggers.slot import AgentTaskSlotTrigger
from lab.cluster.processes import wait_until

CONN_ID = "shinzo_limited"


def set_connection(monkeypatch: pytest.MonkeyPatch, limit: Any = 2) -> None:
    connection = {"conn_type": "shinzo", "password": "k", "extra": {"max_concurrent_tasks": limit}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))


@pytest.fixture
def orders(airflow_home: Any, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> list[Any]:
    """The orders that the plugin has got."""
    set_connection(monkeypatch)
    mocker.patch.object(slot_queue, "SLOT_POLL", 0.01)
    mocker.patch.object(connection_cache, "TTL", 0.0)
    given: list[Any] = []
    mocker.patch.object(slot_queue, "order_plugin", side_effect=lambda *order: given.append(order) or {})
    return given


async def until(condition: Callable[[], bool]) -> None:
    assert await asyncio.to_thread(wait_until, condition, timeout=30, interval=0.005)


def test_all_that_wait_share_one_order_per_interval(orders: list[Any], mocker: MockerFixture) -> None:
    async def wait() -> None:
        tasks = [asyncio.create_task(wait_while_limited(CONN_ID)) for _ in range(50)]
        await until(lambda: len(orders) >= 3)
        queues = slot_queue._queues[asyncio.get_running_loop()]
        assert list(queues) == [CONN_ID]
        assert queues[CONN_ID].waiting == 50
        for task in tasks[1:]:
            task.cancel()
        count = len(orders)
        await until(lambda: len(orders) > count + 1)  # it goes on for the last one
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not queues

    run = mocker.spy(SlotQueue, "run")
    asyncio.run(wait())
    assert run.call_count == 1
    assert set(map(str, orders)) == {
        str(("/agent-tasks/slots", "share the slots", {"do": "share slots", "conn_id": CONN_ID, "limit": 2}))
    }


def test_without_a_limit_there_are_slots_for_all_that_still_wait(
    orders: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> None:
        waiting = asyncio.create_task(wait_while_limited(CONN_ID))
        await until(lambda: len(orders) > 0)
        set_connection(monkeypatch, None)
        await until(lambda: [order["limit"] for _, _, order in orders[-2:]] == [NO_LIMIT] * 2)
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(wait())


def test_the_last_limit_counts_while_the_connection_cannot_be_read(
    orders: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> None:
        waiting = asyncio.create_task(wait_while_limited(CONN_ID))
        await until(lambda: len(orders) > 0)
        monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")
        count = len(orders)
        await until(lambda: len(orders) > count + 2)
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(wait())


def test_a_connection_that_cannot_be_used_ends_the_wait(
    orders: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, "many")
    asyncio.run(asyncio.wait_for(wait_while_limited(CONN_ID), 30))
    assert not orders


def test_an_api_server_that_cannot_be_reached_is_named_once(
    orders: list[Any], mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fail(*order: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 4:
            return {}
        raise AgentTaskError("No connection.")

    async def wait() -> None:
        waiting = asyncio.create_task(wait_while_limited(CONN_ID))
        await until(lambda: len(calls) >= 7)
        waiting.cancel()
        await asyncio.wait([waiting])

    mocker.patch.object(slot_queue, "order_plugin", side_effect=fail)
    asyncio.run(wait())
    warnings = [record.message for record in caplog.records if record.name == slot_queue.__name__]
    warning = f"The free slots of connection {CONN_ID!r} are not shared; 1 tasks wait. No connection."
    assert warnings == [warning] * 2  # once for each outage


def test_the_trigger_yields_an_event_if_the_connection_cannot_be_used(
    orders: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def collect() -> list[Any]:
        return [event.payload async for event in AgentTaskSlotTrigger(conn_id=CONN_ID).run()]

    set_connection(monkeypatch, "many")
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
    assert asyncio.run(collect()) == [{"slot": True, "try_number": 0}]


def test_the_trigger_is_recreated_from_what_it_serializes() -> None:
    path, arguments = AgentTaskSlotTrigger(conn_id=CONN_ID).serialize()
    assert path == "airflow_agent_tasks.triggers.slot.AgentTaskSlotTrigger"
    assert AgentTaskSlotTrigger(**arguments).serialize() == (path, arguments)
