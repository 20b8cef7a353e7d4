"""The worker's side of an Airflow task's form under Required Actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from airflow_agent_tasks.airflow_compat.api_server import order_plugin
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow_agent_tasks.documentation import link
from airflow_agent_tasks.errors import AgentTaskUnavailableError
from airflow_agent_tasks.lifecycle.question_form import OPTIONS, Asking, Form
from airflow_agent_tasks.logger_protocol import Log

#: The path of this package's plugin in the API server.
PATH = "/agent-tasks/required-action"

#: The limitation of the form without the plugin.
WITHOUT_PLUGIN = (
    "stays open when its question is answered elsewhere, and an answer to an earlier try cannot be read"
    if AIRFLOW_V_3_4_PLUS
    else "cannot show each question's own text"
)


class HITLUser(TypedDict):
    """A user who may answer, as in ``airflow.sdk.execution_time.hitl``."""

    id: str
    name: str


class RequiredAction:
    """
    Opens, reads and closes the form. Each task instance has one form, for all questions of its agent.

    Airflow lets a worker open a form, but not read or close it, and Airflow 3.3 keeps the text of an existing
    form. So this package's plugin in the API server does both, and updates the text. If the plugin cannot be
    reached, a form on Airflow 3.3 explains where to find the question.

    :param task_instance: The Airflow task instance.
    :param log: The task's log, for a warning if the plugin cannot be reached.
    """

    def __init__(self, task_instance: Any, log: Log) -> None:
        self._ti = task_instance
        self._log = log
        self._has_warned = False

    def show(self, asking: Asking, users: Sequence[HITLUser], *, reopen: bool = False) -> bool:
        """
        Open the form with this question's text, and remove an answer to an earlier question.

        :param users: The users who may answer; empty for everyone with permission in Airflow.
        :param reopen: Also remove an existing answer to this question.
        :return: False if that needs the plugin and the plugin cannot be reached.
        """
        form = asking.build_form()
        if AIRFLOW_V_3_4_PLUS:
            self._open(form, users)
            return True
        order = {"do": "show", "question_id": asking.question_id, "reopen": reopen, **asdict(form)}
        return self._send({**order, "options": list(OPTIONS), "assigned_users": list(users)}) is not None

    def make(self, asking: Asking, users: Sequence[HITLUser]) -> None:
        """Open the form without the plugin; on Airflow 3.3 an existing form keeps its text."""
        self._open(asking.build_lasting_form(), users)

    def _open(self, form: Form, users: Sequence[HITLUser]) -> None:
        # Imported here, because every DAG file imports this module.
        from airflow.sdk.execution_time.hitl import upsert_hitl_detail

        upsert_hitl_detail(self._ti.id, list(OPTIONS), **asdict(form), assigned_users=list(users))

    def read(self, form_id: str) -> Mapping[str, Any] | None:
        """
        Return the answer, in the format of Airflow's resume event, or None if there is none yet.

        :param form_id: The id of the task instance that asked: this one, or that of an earlier try.
        """
        reply = self._send({"do": "read", "form_id": form_id})
        return reply.get("response") if reply else None

    def close(self) -> Mapping[str, Any] | None:
        """Close the form; if it already has an answer, return that as ``read`` does."""
        reply = self._send({"do": "close"})
        return reply.get("response") if reply else None

    def _send(self, order: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """
        Send an order to the plugin and return its reply, or None if it cannot be reached.

        :raises AgentTaskCancelledError: if the Airflow task is no longer running.
        """
        addressed = {"task_instance_id": str(self._ti.id), **order}
        try:
            return order_plugin(PATH, "change the form", addressed)
        except AgentTaskUnavailableError as error:
            if not self._has_warned:
                self._warn(str(error))
        return None

    def _warn(self, reasons: str) -> None:
        self._has_warned = True
        self._log.warning(
            "The form under Required Actions %s, because this package's plugin in Airflow's API server "
            "cannot be reached. Check that the package is installed there, that [api] secret_key is the same "
            "on both machines, and that this worker can reach [api] base_url. See %s %s",
            WITHOUT_PLUGIN,
            link("explanation/questions#what-your-deployment-needs"),
            reasons,
        )
