from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from tzafon import Lightcone

from airflow_agent_tasks.sandbox.server import Sandbox

LONGEST_WAIT = 10.0


@pytest.fixture
def sandbox(agent_task_sandbox: Sandbox) -> Sandbox:
    return agent_task_sandbox


@pytest.fixture
def lightcone(sandbox: Sandbox) -> Iterator[Lightcone]:
    with Lightcone(api_key=sandbox.api_key, base_url=sandbox.url) as client:
        yield client


class Http:
    """Plain requests to the sandbox, with the key."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self._url = sandbox.url
        self._session = session
        self._headers = {"Authorization": f"Bearer {sandbox.api_key}"}

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        url = path if path.startswith("http") else f"{self._url}{path}"
        arguments = {"headers": self._headers, "timeout": 10, **more}
        if body is not None:
            arguments["json"] = body
        return self._session.request(method, url, **arguments)

    def submit(self, message: str = "Work.", agent_id: str = "agt_abc", **fields: Any) -> dict[str, Any]:
        reply = self("POST", f"/agent/request/{agent_id}", {"message": message, **fields})
        assert reply.status_code == 202, reply.text
        return reply.json()

    def start(self, instruction: str = "Work.", **fields: Any) -> dict[str, Any]:
        reply = self("POST", "/agent/tasks", {"instruction": instruction, **fields})
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[Http]:
    with requests.Session() as session:
        session.trust_env = False
        yield Http(sandbox, session)


@pytest.fixture
def wait_until() -> Callable[[Callable[[], Any]], Any]:
    """Return a function that asks until the answer is true, and returns it."""

    def wait(ask: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + LONGEST_WAIT
        while not (answer := ask()):
            assert time.monotonic() < deadline, "what the test waits for did not come"
            time.sleep(0.01)
        return answer

    return wait


@pytest.fixture
def scripted() -> Callable[..., str]:
    """Return a function that writes an instruction with a script, by default of quick steps."""

    def write(text: str = "Work.", **script: Any) -> str:
        return f"#sandbox {json.dumps({'step_seconds': 0.05, **script})}\n{text}"

    return write
