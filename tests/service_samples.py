"""What the tests of the services share: dialects, requests of each kind, and the documents' own replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.services.base import Capability, Dialect
from airflow_agent_tasks.services.http import Request, Response
from airflow_agent_tasks.services.lightcone import LightconeDialect
from airflow_agent_tasks.services.shinzo import ShinzoDialect

REPLIES = Path(__file__).parent / "services" / "replies"

LIGHTCONE = LightconeDialect()
SHINZO = ShinzoDialect()
DIALECTS: dict[str, Dialect] = {"lightcone": LIGHTCONE, "shinzo": SHINZO}

TASK_ID = "task_01"
AGENT_ID = "agt_01"
NOW = 1_700_000_000.0


def build_start(dialect: Dialect, **fields: Any) -> Request:
    return dialect.build_start({dialect.instruction_field: "Look.", **fields}, agent_id=AGENT_ID)


def build_status(dialect: Dialect) -> Request:
    return dialect.build_status(TASK_ID, AGENT_ID)


def build_message(dialect: Dialect) -> Request:
    return dialect.build_action(Capability.MESSAGE, TASK_ID, AGENT_ID, message="Go on.")


def build_stop(dialect: Dialect) -> Request:
    return dialect.build_action(dialect.stop_capability, TASK_ID, AGENT_ID)


def recorded(name: str) -> Response:
    return Response(200, {"content-type": "application/json"}, (REPLIES / f"{name}.json").read_bytes())


def json_reply(body: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(body).encode())


def parse_task(dialect: Dialect, response: Response, request: Request | None = None) -> AgentTask:
    request = request or build_status(dialect)
    return dialect.parse_task(request, response, task_id=TASK_ID, agent_id=AGENT_ID, now=NOW)


def parse_started(dialect: Dialect, response: Response) -> AgentTask:
    return dialect.parse_started(build_start(dialect), response, agent_id=AGENT_ID, now=NOW)


def read_status(dialect: Dialect, **reply: Any) -> AgentTask:
    """Return the agent task that a status reply with these keys describes."""
    return parse_task(dialect, json_reply(reply))
