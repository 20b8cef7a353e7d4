"""The URL that a service calls when an agent task changes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from airflow.sdk.log import mask_secret

from airflow_agent_tasks.callbacks.address import is_out_of_reach
from airflow_agent_tasks.callbacks.settings import PATH, read_base_url, read_secrets
from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.lifecycle.callback import Callback, MakeCallback


def make_callback(command: MakeCallback, task_instance: Any, service_url: str) -> Callback:
    """
    Return the callback of a submission.

    :param task_instance: The task instance that submits.
    :param service_url: The base URL of the service.
    :raises AgentTaskConfigurationError: if the settings of this machine do not allow a callback.
    """
    # Imported here: only tasks with a callback need it, and every DAG file imports this module.
    from airflow_agent_tasks.callbacks.token import CallbackToken, fingerprint, make_token

    try:
        base_url = read_base_url()
    except ValueError as error:
        raise AgentTaskConfigurationError(str(error)) from None
    secrets = read_secrets()
    if not secrets:
        raise AgentTaskConfigurationError(
            "There is no secret to sign the URL of a callback with. Set [agent_tasks] callback_secret to the "
            "same value on the API servers and on all machines that run tasks."
        )
    content = CallbackToken(UUID(str(task_instance.id)), fingerprint(command.idempotency_key))
    token = make_token(secrets, content, expires_at=command.expires_at)
    # The service may quote it in an error.
    mask_secret(token)
    return Callback(f"{base_url}{PATH}{token}", f"{base_url}{PATH}…", is_out_of_reach(base_url, service_url))
