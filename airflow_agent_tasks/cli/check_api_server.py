"""Checks the plugin in the API server from this machine: reachable, loaded, same secret key, same time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from airflow_agent_tasks.airflow_compat.api_server import list_servers, send_order
from airflow_agent_tasks.airflow_compat.startup_check import PACKAGE
from airflow_agent_tasks.airflow_compat.worker_request_signature import LIFETIME, REFUSAL
from airflow_agent_tasks.cli.check_installation import FIT_REMEDY
from airflow_agent_tasks.cli.finding import Finding, split_message
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.services.http import Request, Response

#: The path of this package's plugin in the API server.
PATH = "/agent-tasks/health"
#: Seconds by which clocks may differ without a warning. The Date header has whole seconds.
CLOCK_TOLERANCE = 5.0
#: The statuses for a path that an API server does not know; with the UI, it knows every path for GET.
UNKNOWN_PATH = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
#: Ranks of responses that contain nothing about the plugin.
NOT_LOADED, NOT_AIRFLOW = 2, 3
ADDRESSES = "[core] execution_api_server_url and [api] base_url"


@dataclass(frozen=True)
class Reply:
    """
    The response of one API server.

    :param server: The server's URL.
    :param response: The response.
    :param clock: Its clock minus this machine's in seconds, or None if the response has no date.
    """

    server: str
    response: Response
    clock: float | None

    @property
    def status(self) -> int:
        """The response's status."""
        return self.response.status

    @property
    def fields(self) -> Mapping[str, Any]:
        """The response's JSON object; empty if it is not an object."""
        try:
            fields = self.response.to_json()
        except ValueError:
            fields = None
        return fields if isinstance(fields, Mapping) else {}


def check_api_server() -> Iterator[Finding]:
    """Yield findings from the API servers' responses to a request that is signed like a worker's."""
    replies, failures = ask_servers()
    if not replies:
        remedy = f"Start the API server, and check {ADDRESSES} and the network on this machine."
        yield Finding("API server", "failed", " ".join(failures), remedy)
        return
    best = replies[0]
    if failures and _rank(best) >= NOT_LOADED:
        # The server with the UI, which has the plugin, may be the one that does not respond.
        yield Finding("API server", "warning", " ".join(failures), f"Check {ADDRESSES} on this machine.")
    yield from _judge(best)


def ask_servers(**fields: str) -> tuple[list[Reply], list[str]]:
    """
    Ask each API server for the health of its plugin.

    :param fields: More fields of the order.
    :return: The replies, the one that says most about the plugin first, and why others are missing.
    """
    replies: list[Reply] = []
    failures: list[str] = []
    for server in list_servers():
        try:
            replies.append(_ask(server, fields))
        except AgentTaskError as error:
            failures.append(split_message(str(error))[0])
    return sorted(replies, key=_rank), failures


def _ask(server: str, fields: Mapping[str, str]) -> Reply:
    order = {"do": "report health", **fields}
    request = Request("POST", PATH, "ask for the plugin's health", json=order)
    sent_at = time.time()
    response = send_order(server, request, retries=False)
    here = (sent_at + time.time()) / 2
    try:
        clock = parsedate_to_datetime(response.headers.get("date", "")).timestamp() - here
    except ValueError:
        clock = None
    return Reply(server, response, clock)


def _rank(reply: Reply) -> int:
    """Return 0 for the response of a healthy plugin, and more for one that says less about the plugin."""
    if "misfits" in reply.fields:
        return 0
    if _is_refusal(reply):
        return 1
    return NOT_LOADED if reply.status in UNKNOWN_PATH else NOT_AIRFLOW


def _is_refusal(reply: Reply) -> bool:
    return reply.status == HTTPStatus.FORBIDDEN and reply.fields.get("detail") == REFUSAL


def _judge(reply: Reply) -> Iterator[Finding]:
    rank = _rank(reply)
    if rank == NOT_AIRFLOW:
        details = f"{reply.server} responded with status {reply.status}, but is not an Airflow API server"
        yield Finding("API server", "failed", details, f"Check {ADDRESSES} on this machine.")
        return
    yield Finding("API server", "ok", f"{reply.server} responds")
    if rank == NOT_LOADED:
        details = f"not loaded or outdated in the API server at {reply.server} (status {reply.status})"
        yield Finding(
            "plugin",
            "failed",
            details,
            f"Install {PACKAGE} {version(PACKAGE)} there, and restart the API server.",
        )
        return
    yield from _check_plugin(reply)
    yield from _check_key_and_clocks(reply)


def _check_plugin(reply: Reply) -> Iterator[Finding]:
    there, here = reply.fields.get("version"), version(PACKAGE)
    if there is None:
        yield Finding("plugin", "ok", "loaded in the API server")
    elif there == here:
        yield Finding("plugin", "ok", f"{PACKAGE} {there} is loaded in the API server")
    else:
        details = f"the API server has {PACKAGE} {there}, this machine has {here}"
        yield Finding("plugin", "warning", details, "Install the same version on all machines.")
    for misfit in reply.fields.get("misfits", ()):
        details = f"in the API server, {misfit['fault']}. So {misfit['consequence']}."
        yield Finding("plugin", "failed", details, FIT_REMEDY)


def _check_key_and_clocks(reply: Reply) -> Iterator[Finding]:
    is_refused, clock = _is_refusal(reply), reply.clock
    if is_refused and (clock is None or abs(clock) < LIFETIME - CLOCK_TOLERANCE):
        yield Finding(
            "secret key",
            "failed",
            f"{reply.server} rejects requests that this machine signs with [api] secret_key",
            "Set [api] secret_key (AIRFLOW__API__SECRET_KEY) to the same value on the API servers and on all "
            "machines that run tasks, and restart them.",
        )
    elif not is_refused:
        yield Finding("secret key", "ok", "[api] secret_key is the same as in the API server")
    if clock is not None:
        yield _judge_clock("the API server's clock", clock, limit=LIFETIME)
    if (database_clock := reply.fields.get("database_clock")) is not None:
        yield _judge_clock("the database's clock, compared with the API server's,", database_clock)


def _judge_clock(name: str, seconds: float, limit: float = float("inf")) -> Finding:
    relation = f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"
    if abs(seconds) <= CLOCK_TOLERANCE:
        return Finding("clocks", "ok", f"{name} differs by less than {CLOCK_TOLERANCE:g} s")
    details = f"{name} is {relation}"
    if abs(seconds) >= limit - CLOCK_TOLERANCE:
        details += f"; a worker's signature is valid for {limit:g} s, so the plugin rejects it"
    verdict: Any = "failed" if abs(seconds) >= limit - CLOCK_TOLERANCE else "warning"
    return Finding("clocks", verdict, details, "Synchronize the clocks of all machines (NTP).")
