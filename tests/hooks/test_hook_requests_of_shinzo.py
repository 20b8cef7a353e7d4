"""What the Shinzo hook sends is what the examples of the service's own page send."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from tests.raw_server import RawServer, reply

SUBMIT = """
curl -X POST https://api.app.shinzo.ai/agent/request/agt_abc123def456 \
  -H "Authorization: Bearer <jwt_token>" \
  -H "Content-Type: application/json" \
  -d '{
    "message": "Review the code in /workspace/src and provide feedback",
    "priority": 7,
    "metadata": {
      "project": "frontend-app"
    }
  }'
"""
STATUS = """
curl -X GET https://api.app.shinzo.ai/agent/agt_abc123def456/task/tsk_xyz789abc123 \
  -H "Authorization: Bearer <jwt_token>"
"""
MESSAGE = """
curl -X POST https://api.app.shinzo.ai/agent/agt_abc123def456/task/tsk_xyz789abc123/message \
  -H "Authorization: Bearer <jwt_token>" \
  -H "Content-Type: application/json" \
  -d '{"message": "Yes, proceed with the refactoring"}'
"""
CANCEL = """
curl -X POST https://api.app.shinzo.ai/agent/agt_abc123def456/task/tsk_xyz789abc123/cancel \
  -H "Authorization: Bearer <jwt_token>"
"""
AGENT, TASK = "agt_abc123def456", "tsk_xyz789abc123"
KEY = "<jwt_token>"


@dataclass(frozen=True)
class Curl:
    """A request as a curl command gives it."""

    method: str
    url: str
    headers: dict[str, str]
    body: Any


def read_curl(command: str) -> Curl:
    words = iter(shlex.split(command)[1:])
    method, url, headers, body = "GET", "", {}, None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name.lower()] = value
        elif word == "-d":
            body = json.loads(next(words))
        else:
            url = word
    return Curl(method, url, headers, body)


CALLS: dict[str, tuple[str, Callable[[ShinzoHook], Any]]] = {
    "submit": (
        SUBMIT,
        lambda hook: hook.start_task(
            agent_id=AGENT,
            message="Review the code in /workspace/src and provide feedback",
            priority=7,
            metadata={"project": "frontend-app"},
        ),
    ),
    "status": (STATUS, lambda hook: hook.get_task(TASK, AGENT)),
    "message": (
        MESSAGE,
        lambda hook: hook.send_message(TASK, "Yes, proceed with the refactoring", AGENT),
    ),
    "cancel": (CANCEL, lambda hook: hook.cancel_task(TASK, AGENT)),
    "stop": (CANCEL, lambda hook: hook.stop_task(TASK, AGENT)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_sent_as_in_the_example(
    name: str, serve: Callable[..., RawServer], connect: Callable[..., str]
) -> None:
    command, call = CALLS[name]
    example = read_curl(command)
    server = serve(reply(200, {"task_id": TASK, "status": "running"}))
    connect("shinzo_default", conn_type="shinzo", host=server.url, password=KEY)
    assert call(ShinzoHook()).task_id == TASK
    received, *looks = server.requests
    assert [look.method for look in looks] == ["GET"] * (name == "stop")
    assert (received.method, received.target) == (example.method, urlsplit(example.url).path)
    assert received.json == example.body
    for header, value in example.headers.items():
        assert received.headers[header] == value


def test_the_examples_go_to_the_default_address(connect: Callable[..., str]) -> None:
    connect("shinzo_default", conn_type="shinzo", password=KEY)
    assert read_curl(STATUS).url.startswith(ShinzoHook().settings.base_url + "/agent/")
