"""Parses the script of a simulated task: ``#sandbox {JSON}`` in the first line of its instruction."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from airflow_agent_tasks.agent_task import TERMINAL_STATES, TaskState
from airflow_agent_tasks.sandbox.images import SMALLEST
from airflow_agent_tasks.sandbox.script_parts import (
    GENERATED_TEXT,
    LARGEST_CONTENT,
    Event,
    File,
    StreamFault,
    ToolCall,
)
from airflow_agent_tasks.sandbox.strict_json import CheckedStrictly, describe_mistakes, parse_json

_FIRST_LINE = re.compile(r"\s*#sandbox(?![^\s{])(?P<json>[^\r\n]*)")
_ACTIVE_WORDS = {state.value for state in TaskState} - {state.value for state in TERMINAL_STATES}

_Seconds = Annotated[float, Field(ge=0)]


class ScriptError(ValueError):
    """The first line starts with ``#sandbox`` and is invalid; the message says why."""


class Script(CheckedStrictly):
    """
    The behaviour of a simulated task.

    :param steps: The number of steps; default 3.
    :param step_seconds: The duration of each step in seconds; default 0.5.
    :param titles: What the agent does in its steps, from the first; default and beyond the last:
        ``Step 1 of 3``.
    :param ask: Questions, asked one after the other, spread evenly over the steps; default: none.
    :param exit_code: The exit code; default 0, or 1 if ``status`` is failed or cancelled.
    :param status: The final status word, which may be your own; default: completed or failed, by exit code.
    :param result: The result, any JSON; default: a short summary.
    :param queued_seconds: How long it stays queued, in seconds; default 0.
    :param events: Events for the stream before the completion, each with a ``type``; default: none.
    :param usage: What the task has used after all its steps, as a dict; default: it reports no usage.
        Numbers, also those one level deeper, grow linearly from 0 with the completed steps.
    :param tool_calls: Tool calls for the stream, spread evenly over the steps; each is a name, or a dict with
        ``name`` and any other keys; default: none.
    :param deltas: Text that the stream sends in pieces of a few characters, spread evenly over the steps, if
        the task is started with ``stream_deltas``; ``true`` for a generated text; default: none.
    :param screenshots: How many screenshots the stream sends, spread evenly over the steps; default 0.
    :param screenshot_bytes: The size of each in bytes; default 1,024.
    :param files: Files in the result, which must be a dict, under the key ``files``; default: none. Each is a
        dict with ``name``, ``media_type`` (default ``application/octet-stream``) and either ``text`` or
        ``bytes``, the size of filler.
    :param stream: How the stream misbehaves; default: it does not. One of ``{"cut_after": 2}`` (2.5 cuts in
        the middle of the third event), ``{"cut_before_completion": true}``, ``{"stall_after": 2}`` and
        ``{"omit_completion": true}``.
    :param callbacks: How a Shinzo task's webhooks are delivered: ``once`` (default) for each question and for
        the end; ``twice``; ``late``, each ``callback_seconds`` after the change; ``early``, only one, before
        the response to the submission; ``reversed``, all after the end, the latest first; or ``never``.
    :param callback_seconds: The delay of ``late`` in seconds; default 10.
    """

    steps: Annotated[int, Field(ge=1, le=100_000)] = 3
    step_seconds: _Seconds = 0.5
    titles: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    ask: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    exit_code: int | None = None
    status: Annotated[str, Field(min_length=1)] | None = None
    result: Any = None
    queued_seconds: _Seconds = 0.0
    events: list[Event] = Field(default_factory=list)
    usage: dict[str, Any] | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    deltas: Annotated[str, Field(min_length=1)] | None = None
    screenshots: Annotated[int, Field(ge=0, le=100_000)] = 0
    screenshot_bytes: Annotated[int, Field(ge=SMALLEST, le=LARGEST_CONTENT)] = 1024
    files: list[File] = Field(default_factory=list)
    stream: StreamFault | None = None
    callbacks: Literal["once", "twice", "late", "early", "reversed", "never"] = "once"
    callback_seconds: _Seconds = 10.0

    @field_validator("deltas", mode="before")
    @classmethod
    def _deltas_may_be_generated(cls, deltas: Any) -> Any:
        return GENERATED_TEXT if deltas is True else deltas

    @field_validator("status")
    @classmethod
    def _status_must_end_the_task(cls, word: str | None) -> str | None:
        if word in _ACTIVE_WORDS - {TaskState.UNKNOWN.value}:
            raise ValueError(
                f"{word!r} does not end a task; use completed, failed, cancelled or your own word"
            )
        return word

    @model_validator(mode="after")
    def _files_need_a_dict(self) -> Script:
        if self.files and not isinstance(self._result_without_files, dict):
            raise ValueError("files: they require a result that is a dict")
        return self

    @property
    def final_exit_code(self) -> int:
        """The task's exit code."""
        if self.exit_code is not None:
            return self.exit_code
        return 1 if self.status in (TaskState.FAILED.value, TaskState.CANCELLED.value) else 0

    @property
    def final_status(self) -> str:
        """The service's final status word."""
        return self.status or (TaskState.FAILED if self.final_exit_code else TaskState.COMPLETED).value

    @property
    def final_result(self) -> Any:
        """The result of the task if it is not stopped."""
        result = self._result_without_files
        return {**result, "files": [file.to_json() for file in self.files]} if self.files else result

    @property
    def _result_without_files(self) -> Any:
        if "result" in self.model_fields_set:
            return self.result
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        return {"summary": f"The sandbox did {steps} and ended as {self.final_status}."}


class ScriptRule(Script):
    """
    A script for the tasks whose instruction or message matches.

    :param match: Text or a regular expression to search for; default: every task matches.
    """

    match: str = ""

    def matches(self, text: str) -> bool:
        """Return whether the rule is for a task with this instruction or message."""
        if self.match in text:
            return True
        try:
            return re.search(self.match, text) is not None
        except re.error:
            return False  # text that is not a regular expression


class ScriptRules:
    """The scripts for tasks that have none in their first line; the newest match applies."""

    def __init__(self) -> None:
        self._rules: list[ScriptRule] = []

    def add(self, rule: ScriptRule) -> None:
        """Add a rule, before the others."""
        self._rules.insert(0, rule)

    def find(self, text: str) -> Script:
        """Return the script for a task, the default script if no rule matches."""
        return next((rule for rule in self._rules if rule.matches(text)), Script())

    def forget(self) -> None:
        """Drop all rules."""
        self._rules.clear()


def read_script(text: str, rules: ScriptRules | None = None) -> Script:
    """
    Return the script in the first line of an instruction or message, or else the one from the rules.

    Leading white space is skipped, so that a triple-quoted string may start with a line break.

    :param text: The instruction or message.
    :param rules: The scripts of tasks without such a line; default: none.
    :raises ScriptError: if the line starts with ``#sandbox`` and is not a valid script.
    """
    found = _FIRST_LINE.match(text)
    if found is None:
        return Script() if rules is None else rules.find(text)
    try:
        return Script.model_validate(parse_json(found["json"]))
    except ValidationError as exc:
        keys = ", ".join(Script.model_fields)
        raise ScriptError(
            f"The #sandbox line is invalid: {describe_mistakes(exc)}. Its keys: {keys}"
        ) from None
    except ValueError as exc:
        raise ScriptError(
            f'The #sandbox line is not JSON ({exc}). Write one line such as: #sandbox {{"steps": 2}}'
        ) from None
