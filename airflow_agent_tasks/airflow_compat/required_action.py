"""The form of one Airflow task under Required Actions, as its worker handles it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from airflow_agent_tasks.airflow_compat.signed_orders import sign
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.client.sync_client import SyncClient
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.lifecycle.question_form import OPTIONS, Asking
from airflow_agent_tasks.logger import Log
from airflow_agent_tasks.services.http import Request

if TYPE_CHECKING:
    from airflow.sdk.execution_time.hitl import HITLUser

#: Where this package's part in the API server listens.
PATH = "/agent-tasks/required-action"
#: Seconds for the API server to answer.
TIMEOUT = 10.0
#: What Airflow takes where ``[api] base_url`` is not set.
DEFAULT_SERVER = "http://localhost:8080"


class RequiredAction:
    """
    Shows and closes the form. There is one for each task instance, whatever the agent asks in it.

    Airflow 3.3 lets a worker make a form, but keeps the first text of it, and lets nobody close one. So both
    are done by this package's plugin in the API server; where it cannot be reached, the form says so.

    :param task_instance: Whose form.
    :param log: Where it is told that the plugin cannot be reached.
    """

    def __init__(self, task_instance: Any, log: Log) -> None:
        self._ti = task_instance
        self._log = log
        self._has_warned = False

    def show(self, asking: Asking, users: Sequence[HITLUser], *, reopen: bool = False) -> bool:
        """
        Open the form with this question's text, without an answer to an earlier one.

        :param users: Who may answer; empty for everybody whom Airflow lets.
        :param reopen: Remove an answer to this very question, too.
        :return: False where the plugin cannot be reached.
        """
        form = asdict(asking.build_form())
        order = {"do": "show", "question_id": asking.question_id, "reopen": reopen, **form}
        return self._order({**order, "options": list(OPTIONS), "assigned_users": list(users)}) is not None

    def make(self, asking: Asking, users: Sequence[HITLUser]) -> None:
        """Open the form by Airflow's own means; one that was made before keeps its text."""
        # Imported here: Airflow sets the channel to the supervisor only when the process runs.
        from airflow.sdk.execution_time.hitl import upsert_hitl_detail

        form = asking.build_lasting_form()
        upsert_hitl_detail(self._ti.id, list(OPTIONS), **asdict(form), assigned_users=list(users))

    def read(self) -> Mapping[str, Any] | None:
        """Return the answer that somebody has given meanwhile, as Airflow gives it, or None."""
        reply = self._order({"do": "read"})
        return reply.get("response") if reply else None

    def close(self) -> Mapping[str, Any] | None:
        """Close the form, unless somebody has answered it: then return the answer, as Airflow gives it."""
        reply = self._order({"do": "close"})
        return reply.get("response") if reply else None

    def _order(self, order: Mapping[str, Any]) -> Mapping[str, Any] | None:
        signed = {"task_instance_id": str(self._ti.id), **order}
        reasons = []
        for server in _list_servers():
            try:
                reply = _send(server, signed)
            except AgentTaskError as error:
                reasons.append(str(error))
                continue
            if reply is None:
                raise AgentTaskCancelledError(
                    "Airflow says that this task does not run any more: it was marked or cleared meanwhile."
                )
            return reply
        if not self._has_warned:
            self._warn(" ".join(reasons))
        return None

    def _warn(self, reasons: str) -> None:
        self._has_warned = True
        self._log.warning(
            "The form under Required Actions cannot show each question's own text, because this package's "
            "plugin in Airflow's API server did not take it: is the package installed there, is [api] "
            "secret_key the same as here, and does [api] base_url lead there from this worker? %s",
            reasons,
        )


def _send(server: str, order: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the plugin's reply; None where the task does not run any more."""
    token = sign(conf.get("api", "secret_key", fallback=None) or "", order)
    settings = ClientSettings(
        server,
        token,
        timeout=TIMEOUT,
        verify=conf.get("api", "ssl_cert", fallback=None) or True,
        allow_insecure_http=True,  # The worker's own requests go the same way.
        source="Airflow's API server",
    )
    client = SyncClient(settings)
    try:
        response = client.send(Request("POST", PATH, "change the form", json=order))
        reply = response.to_json() if response.status == HTTPStatus.OK else None
    except ValueError:
        reply = None
    finally:
        client.close()
    if response.status == HTTPStatus.CONFLICT:
        return None
    if not isinstance(reply, Mapping):
        raise AgentTaskError(f"{server} answered with status {response.status}.")
    return reply


def _list_servers() -> Iterable[str]:
    """Return the addresses of API servers: the one for workers first, which may serve nothing else."""
    page = conf.get("api", "base_url", fallback=None) or "/"
    page = (DEFAULT_SERVER + page if page.startswith("/") else page).rstrip("/")
    workers = conf.get("core", "execution_api_server_url", fallback=None) or page
    return dict.fromkeys((workers.rstrip("/").removesuffix("/execution"), page))
