"""
The pytest fixture ``agent_task_sandbox``.

Every pytest run on a machine with this package imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_agent_tasks.sandbox.server import Sandbox


@pytest.fixture(scope="session")
def _agent_task_sandbox_server() -> Iterator[Sandbox]:
    from airflow_agent_tasks.sandbox.server import Sandbox

    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def agent_task_sandbox(
    _agent_task_sandbox_server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """
    A local mock of Lightcone and Shinzo on a free port, empty at the start of each test.

    The connections ``lightcone_default`` and ``shinzo_default`` (default agent ``agt_sandbox``) point to it.
    ``connect("my_conn")`` points others to it, until the test ends. It has ``url``, ``api_key``,
    ``requests()``, ``tasks()``, ``faults([...])`` and ``script(match=..., ...)``.
    """
    _agent_task_sandbox_server.forget()
    for name, value in _agent_task_sandbox_server.connection_variables().items():
        monkeypatch.setenv(name, value)
    yield _agent_task_sandbox_server
    _agent_task_sandbox_server.disconnect()
