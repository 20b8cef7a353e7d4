"""The base of all services: a dialect builds each request and reads each response."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Flag, auto
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

from airflow_agent_tasks.agent_task import TERMINAL_STATES, AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskNotSupportedError,
    AgentTaskRejectedError,
)
from airflow_agent_tasks.services import http_errors, response_values
from airflow_agent_tasks.services.http import Request, Response, is_usable_id
from airflow_agent_tasks.services.start_fields import Field, check_fields
from airflow_agent_tasks.services.state_fields import read_state
from airflow_agent_tasks.services.usage import read_usage
from airflow_agent_tasks.text import shorten

#: The statuses with which services reject an action on an agent task that has ended.
HAS_ENDED = (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT)
#: The fields of a response that describes nothing but the state.
_PLAIN_KEYS = frozenset({"status", "exit_code"})


class Capability(Flag):
    """What a service may support beyond starting a task and returning its status."""

    STREAM = auto()
    MESSAGE = auto()
    PAUSE = auto()
    RESUME = auto()
    CANCEL = auto()
    IDEMPOTENT_START = auto()
    CALLBACK = auto()
    PROGRESS = auto()
    EXIT_CODE = auto()
    AGENT_CHOICE = auto()


class CallbackFields(NamedTuple):
    """
    The start fields of a service that calls back.

    :param url: The field for the URL that it calls.
    :param mode: The field that asks for the call, and its value for that.
    """

    url: str
    mode: tuple[str, str]


class Dialect(abc.ABC):
    """
    The protocol of one service: its status words, requests and responses. Holds no state.

    To add a service, write a dialect and a hook (a subclass of ``AgentTaskHook``) that names it.
    """

    #: The service's name as in ``AgentTask.service`` and the connection type.
    service: ClassVar[str]
    #: The service's name in messages.
    title: ClassVar[str]
    default_base_url: ClassVar[str]
    capabilities: ClassVar[Capability]
    #: The alternative to each missing capability, as a sentence.
    alternatives: ClassVar[Mapping[Capability, str]] = {}
    #: The last path segment of each call on a started task, and its verb in messages.
    actions: ClassVar[Mapping[Capability, tuple[str, str]]] = {}
    #: The start fields besides ``agent_id``, in the order of the service's documentation.
    start_fields: ClassVar[tuple[Field, ...]]
    #: The start field that holds the instruction for the agent.
    instruction_field: ClassVar[str]
    #: The start fields for a callback, on services with ``Capability.CALLBACK``.
    callback_fields: ClassVar[CallbackFields | None] = None
    #: The service's own status words, in lower case.
    states: ClassVar[Mapping[str, TaskState]]
    #: The capability that stops an orphaned task: cancel or pause.
    stop_capability: ClassVar[Capability]

    @abc.abstractmethod
    def build_start(self, fields: Mapping[str, Any], *, agent_id: str | None = None) -> Request:
        """Build the request that starts an agent task; raises AgentTaskArgumentError for invalid fields."""

    @abc.abstractmethod
    def build_task_path(self, task_id: str, agent_id: str | None) -> str:
        """Build the path of a started agent task; raises AgentTaskArgumentError for an invalid id."""

    def build_status(self, task_id: str, agent_id: str | None = None) -> Request:
        """Build the request that gets an agent task's status."""
        path = self.build_task_path(task_id, agent_id)
        return Request("GET", path, f"get {_name_task(task_id, agent_id)}")

    def build_action(
        self, capability: Capability, task_id: str, agent_id: str | None = None, *, message: str | None = None
    ) -> Request:
        """Build the request for ``MESSAGE``, ``PAUSE``, ``RESUME`` or ``CANCEL``."""
        self.require(capability)
        segment, verb = self.actions[capability]
        is_message = capability is Capability.MESSAGE
        return Request(
            "POST",
            f"{self.build_task_path(task_id, agent_id)}/{segment}",
            f"{verb} {_name_task(task_id, agent_id)}",
            json={"message": require_message(message)} if is_message else None,
            # The agent would read a repeated message twice. Pausing twice changes nothing, and a second
            # cancel is rejected without harm.
            repeatable=not is_message,
            has_effect=is_message,
        )

    def build_stream(self, fields: Mapping[str, Any], *, agent_id: str | None = None) -> Request:
        """Build the request that starts an agent task and streams its events."""
        raise self._not_supported(Capability.STREAM)

    def require(self, capability: Capability) -> None:
        """Raise AgentTaskNotSupportedError, with the alternative, unless the service supports it."""
        if capability not in self.capabilities:
            raise self._not_supported(capability)

    def put_idempotency_key(self, fields: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Return the start fields with the key, if the service accepts one or shows it to its users."""
        return dict(fields)

    def wants_callback(self, fields: Mapping[str, Any]) -> bool:
        """Return whether start fields ask for a callback without saying where to: to Airflow."""
        names = self.callback_fields
        if names is None or Capability.CALLBACK not in self.capabilities:
            return False
        mode, wanted = names.mode
        return fields.get(mode) == wanted and fields.get(names.url) is None

    def put_callback_url(self, fields: Mapping[str, Any], url: Any) -> dict[str, Any]:
        """Return the start fields with the URL of a callback, if they want one."""
        names = self.callback_fields
        return {**fields, names.url: url} if names and self.wants_callback(fields) else dict(fields)

    def check_start_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given start fields, validated; raises AgentTaskArgumentError."""
        return check_fields(self.title, self.start_fields, fields)

    def check_states(self, targets: Iterable[TaskState]) -> None:
        """Raise AgentTaskNotSupportedError if the service has no such state at all."""
        if not set(targets) & set(self.states.values()):
            raise AgentTaskNotSupportedError(
                f"A {self.title} task is never {' or '.join(sorted(map(str, targets)))}; its states are "
                f"{', '.join(sorted({state.value for state in self.states.values()}))}."
            )

    def parse_started(
        self, request: Request, response: Response, *, agent_id: str | None, now: float
    ) -> AgentTask:
        """Read the response to a start; without an id in it, the started task cannot be found."""
        response = self._hide_callback(request, response)
        reply = self._read_body(request, response, now=now)
        task_id = response_values.identifier(reply.get("task_id"))
        if task_id is None:
            raise http_errors.unreadable(self.title, request, response, missing="a task_id")
        if not is_usable_id(task_id):
            raise http_errors.unusable_id(self.title, request, response, task_id)
        return self.read_task(reply, task_id=task_id, agent_id=agent_id)

    def _hide_callback(self, request: Request, response: Response) -> Response:
        """Return the response to a start without the end of its callback's URL, which may be a secret."""
        url = (request.json or {}).get(self.callback_fields.url) if self.callback_fields else None
        if not url:
            return response
        hidden = f"{url.rpartition('/')[0]}/***"
        return replace(response, redact=lambda text: response.redact(text.replace(url, hidden)))

    def parse_task(
        self,
        request: Request,
        response: Response,
        *,
        task_id: str,
        agent_id: str | None,
        now: float,
        has_result: bool = True,
    ) -> AgentTask:
        """
        Read the response to a status request or an action.

        :param has_result: False to read only the fields that describe the state, without the result.
        :raises AgentTaskRequestError: for an HTTP status other than 2xx, or an unreadable body.
        """
        reply = self._read_body(request, response, now=now, has_result=has_result)
        # The response to an action may be empty, but a status response must contain the state.
        has_state = (
            response_values.text(reply.get("status"))
            or response_values.integer(reply.get("exit_code")) is not None
        )
        if request.method == "GET" and not has_state:
            raise http_errors.unreadable(self.title, request, response, missing="a status")
        return self.read_task(reply, task_id=task_id, agent_id=agent_id)

    def check_status(self, request: Request, response: Response, *, now: float) -> None:
        """Raise the error of a response whose HTTP status is not 2xx."""
        if not 200 <= response.status < 300:
            key_hint = self._key_hint(response.status)
            raise http_errors.rejected(self.title, request, response, key_hint=key_hint, now=now)

    def check_stop(
        self, request: Request, response: Response, *, now: float
    ) -> AgentTaskRejectedError | None:
        """
        Return the rejection of a stop if the agent task may already have ended, or None if it was accepted.

        :raises AgentTaskRequestError: for any other HTTP status outside 2xx.
        """
        try:
            self.check_status(request, response, now=now)
        except AgentTaskRejectedError as error:
            if error.status in HAS_ENDED:
                return error
            raise
        return None

    def _read_body(
        self, request: Request, response: Response, *, now: float, has_result: bool = True
    ) -> Mapping[str, Any]:
        self.check_status(request, response, now=now)
        try:
            reply = response.to_json() if has_result else read_state(response)
        except ValueError:
            reply = None
        if isinstance(reply, dict):
            return reply
        raise http_errors.unreadable(self.title, request, response, missing="the expected JSON object")

    def read_task(self, reply: Mapping[str, Any], *, task_id: str, agent_id: str | None) -> AgentTask:
        """Read the agent task that the body of a response, or an event of a stream, describes."""
        remote_status = response_values.text(reply.get("status")) or ""
        exit_code = response_values.integer(reply.get("exit_code"))
        status = self.states.get(remote_status)
        if status is None:
            word, remote_status = remote_status.strip().lower().replace(" ", "_"), shorten(remote_status)
            status = self.states.get(word, TaskState.UNKNOWN)
        if exit_code is not None:
            status = _read_end(status, exit_code)
        if reply.keys() <= _PLAIN_KEYS and status is not TaskState.AWAITING_INPUT:
            # As most status responses are.
            return AgentTask(self.service, task_id, status, remote_status, agent_id, exit_code)
        return AgentTask(
            service=self.service,
            task_id=task_id,
            agent_id=agent_id,
            status=status,
            remote_status=remote_status,
            exit_code=exit_code,
            result=_read_result(reply),
            question=response_values.question(reply) if status is TaskState.AWAITING_INPUT else None,
            progress=response_values.progress(reply.get("progress")),
            usage=read_usage(reply),
            created_at=response_values.text(reply.get("created_at")),
            started_at=response_values.text(reply.get("started_at")),
            completed_at=response_values.text(reply.get("completed_at")),
            reused=reply.get("reused") is True,
        )

    def _not_supported(self, capability: Capability) -> AgentTaskNotSupportedError:
        name = str(capability.name).lower().replace("_", " ")
        return AgentTaskNotSupportedError(
            f"{self.title} has no {name}. {self.alternatives.get(capability, '')}".rstrip()
        )

    def _key_hint(self, status: int) -> str:
        return "Check the key in the connection's password field."


def _read_end(status: TaskState, exit_code: int) -> TaskState:
    # An exit code means that the task has ended, whatever its status word. A task with an exit code other
    # than 0 has failed, even if the service calls it "completed".
    if status in TERMINAL_STATES - {TaskState.COMPLETED}:
        return status
    return TaskState.COMPLETED if exit_code == 0 else TaskState.FAILED


def _read_result(reply: Mapping[str, Any]) -> Any:
    # A failed agent may give its reason under "error", which then is the only result.
    return reply["result"] if reply.get("result") is not None else reply.get("error")


def _name_task(task_id: str, agent_id: str | None) -> str:
    return f"agent task {task_id!r}" + (f" of {shorten(repr(agent_id))}" if agent_id else "")


def require_message(message: object) -> str:
    """Return the message; raises AgentTaskArgumentError for a blank one."""
    if not isinstance(message, str) or not message.strip():
        raise AgentTaskArgumentError(f"message must be a non-empty string, not {shorten(repr(message))}.")
    return message
