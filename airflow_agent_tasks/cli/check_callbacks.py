"""Checks from outside in whether services can call the API server: address, proxy, plugin and secret."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from airflow_agent_tasks.airflow_compat.api_server import NO_TOKEN, TIMEOUT
from airflow_agent_tasks.callbacks.address import is_out_of_reach
from airflow_agent_tasks.callbacks.settings import PATH, read_base_url, read_secrets
from airflow_agent_tasks.callbacks.token import CallbackToken, make_token
from airflow_agent_tasks.cli.check_api_server import UNKNOWN_PATH, ask_servers
from airflow_agent_tasks.cli.finding import Finding, split_message
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.client.sync_client import SyncClient
from airflow_agent_tasks.configuration.options import CALLBACK_BASE_URL, CALLBACK_SECRET
from airflow_agent_tasks.configuration.reader import read_text
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.services.http import Request, Response
from airflow_agent_tasks.services.shinzo import ShinzoDialect

BASE_URL, SECRET = str(CALLBACK_BASE_URL), str(CALLBACK_SECRET)
#: Seconds for which the token of the check is valid: more than clocks differ.
LIFETIME = 3600.0
ADDRESS_REMEDY = f"Set {BASE_URL} to an address of the API server that services can reach from outside."
SECRET_REMEDY = f"Set {SECRET} to the same value on the API servers and on all machines that run tasks"


def check_callbacks() -> Iterator[Finding]:
    """
    Yield findings about the calls of services.

    Without a setting for callbacks, there is one finding, which is never ``failed``: perhaps no task uses
    them.
    """
    is_set_up = bool(read_text(CALLBACK_BASE_URL) or read_text(CALLBACK_SECRET))
    try:
        base_url = read_base_url()
    except ValueError as error:
        yield _build("failed" if is_set_up else "warning", str(error), ADDRESS_REMEDY)
        return
    is_internal = is_out_of_reach(base_url, ShinzoDialect.default_base_url)
    if is_set_up:
        if is_internal:
            yield _build("warning", f"services on the internet cannot reach {base_url}", ADDRESS_REMEDY)
        yield from _check_calls(base_url)
    elif is_internal:
        # No warning: a task with a callback logs one, and polls.
        yield _build("ok", f"not set up: services on the internet cannot reach {base_url}, so tasks poll")
    else:
        findings = list(_check_calls(base_url))
        faults = [replace(found, verdict="warning") for found in findings if found.verdict != "ok"]
        yield (faults or findings)[0]


def _check_calls(base_url: str) -> Iterator[Finding]:
    secrets = read_secrets()
    if not secrets:
        yield _build("failed", "there is no secret to sign the URLs of callbacks with", f"{SECRET_REMEDY}.")
        return
    token = CallbackToken(uuid4(), "doctor")
    # Expired, so that the API server does not look for its task.
    yield _call(base_url, make_token(secrets, token, expires_at=0))
    yield from _compare_secrets(make_token(secrets, token, expires_at=time.time() + LIFETIME))


def _call(base_url: str, token: str) -> Finding:
    """Call the API server as a service does, for a task that does not exist."""
    # Not by the CA of [api] ssl_cert: services do not know it.
    settings = ClientSettings(base_url, NO_TOKEN, timeout=TIMEOUT, allow_insecure_http=True, source=BASE_URL)
    request = Request("POST", f"{PATH}{token}", "call the API server as a service does", json={})
    try:
        client = SyncClient(settings)
        try:
            response = client.send(request, retries=False)
        finally:
            client.close()
    except AgentTaskError as error:
        remedy = f"Check {BASE_URL}, the certificate and the network. Services must reach it from outside."
        return _build("failed", split_message(str(error))[0], remedy)
    return _judge(f"{base_url}{PATH}", response)


def _judge(address: str, response: Response) -> Finding:
    if response.status == HTTPStatus.ACCEPTED and not response.body:
        return _build("ok", f"calls to {address} reach the plugin")
    details = f"calls to {address} do not reach the plugin (status {response.status})"
    if response.status in UNKNOWN_PATH:
        remedy = (
            'Load the plugin in the API server; see the row "plugin". If it is loaded, a path prefix is '
            f"missing from {BASE_URL}, or a proxy changes the path."
        )
    else:
        remedy = (
            f"A proxy or a login page answers instead. Let POST {PATH} through to the API server without "
            "authentication."
        )
    return _build("failed", details, remedy)


def _compare_secrets(token: str) -> Iterator[Finding]:
    replies, _ = ask_servers(callback_token=token)
    fields = replies[0].fields if replies else {}
    if "misfits" not in fields:  # the rows about the API server say why
        return
    if (accepts := fields.get("accepts_callbacks")) is None:
        yield _build(
            "warning",
            f"the plugin in the API server is outdated: it cannot compare {SECRET}",
            "Install the same version on all machines.",
        )
    elif accepts:
        yield _build("ok", "the API server recognises the callbacks of this machine's tasks")
    else:
        yield _build(
            "failed",
            f"{SECRET} (or, without it, [core] fernet_key) differs from that of the API server, which "
            "ignores the callbacks of this machine's tasks",
            f"{SECRET_REMEDY}, and restart them.",
        )


def _build(verdict: Any, details: str, remedy: str = "") -> Finding:
    return Finding("callbacks", verdict, details, remedy)
