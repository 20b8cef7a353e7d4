"""Describes an event of a stream in one line for the task's log; every text in it is untrusted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_agent_tasks.agent_task import Progress
from airflow_agent_tasks.services import response_values
from airflow_agent_tasks.services.event_text import to_line

#: Keys that hold what an event says to a reader, the most specific first.
_TEXT_KEYS = ("message", "text", "content", "detail", "error", "summary", "data")
_ARGUMENT_KEYS = ("arguments", "args", "input", "parameters")
#: Parts of a type that make its ``name`` the name of a tool.
_TOOL_WORDS = ("tool", "function", "action")
_TOOL_KEYS = ("tool", "tool_name", "tool_call")
#: Types that only keep a connection open.
_SILENT_KINDS = frozenset({"ping", "heartbeat", "keepalive", "keep_alive", "keep-alive"})
#: Types that need no name in front of their text.
_PLAIN_KINDS = frozenset({"", "progress_update", "message", "screenshots"})
_MAX_NAME = 100
_MAX_VALUE = 60
#: How many names or arguments a line shows.
_MAX_SHOWN = 5


def describe(
    event: Mapping[str, Any],
    kind: str,
    *,
    progress: Progress | None,
    percent: int | None,
    screenshots: range,
    files: Sequence[Any],
) -> str | None:
    """
    Return an event's line for the log, or None if there is nothing to say.

    :param event: The event.
    :param kind: Its type.
    :param progress: Its progress, if it has one.
    :param percent: Its percentage, if it has one.
    :param screenshots: The numbers of its screenshots.
    :param files: Its files, as names, addresses or objects.
    """
    text = _find_text(event)
    word = kind.lower()
    if word == "completion":
        line = _describe_end(event, text)
    elif "error" in word.split("_"):
        line = f"Error: {text or _list_values(event) or 'the service gave no reason'}"
    elif tool := find_tool(event, kind):
        line = f"Tool: {tool}{_describe_arguments(event)}"
    elif question := response_values.text(event.get("question")):
        line = f"Question: {question}"
    elif progress or percent is not None:
        line = _describe_progress(progress, percent, text)
    elif screenshots or files:
        line = ", ".join(_describe_files(screenshots, files)) + (f": {text}" if text else "")
    elif word in _SILENT_KINDS:
        return None
    elif word in _PLAIN_KINDS:
        line = text or _describe_status(event)
    else:
        line = f"{kind}: {text or _list_values(event)}".removesuffix(": ")
    return to_line(line) or None


def find_tool(event: Mapping[str, Any], kind: str) -> str | None:
    """Return the name of the tool that an event is about, or None if it is about none."""
    is_tools = any(word in kind.lower() for word in _TOOL_WORDS)
    if not is_tools and event.keys().isdisjoint(_TOOL_KEYS):
        return None
    candidates = [event.get(key) for key in _TOOL_KEYS]
    if is_tools:
        candidates += [event.get("name"), event.get("function"), event.get("action")]
    for candidate in candidates:
        for _ in range(2):  # {"tool_call": {"function": {"name": "search"}}}
            if isinstance(candidate, dict):
                candidate = candidate.get("name") or candidate.get("function")
        if name := response_values.text(candidate, _MAX_NAME):
            return name
    return None


def _describe_progress(progress: Progress | None, percent: int | None, text: str | None) -> str:
    done, total, step = None, None, text
    if progress:
        done, total, step = progress.steps_completed, progress.total_steps, progress.current_step or text
    parts = []
    if done is not None:
        parts.append(f"Step {done}" + (f" of {total}" if total is not None else ""))
    if step:
        parts.append(step)
    line = ": ".join(parts)
    if percent is None:
        return line
    return f"{line} ({percent} %)" if line else f"{percent} %"


def _describe_end(event: Mapping[str, Any], text: str | None) -> str:
    status = response_values.text(event.get("status"), _MAX_NAME)
    exit_code = response_values.integer(event.get("exit_code"))
    parts = [status] if status else []
    if exit_code is not None:
        parts.append(f"exit code {exit_code}")
    return ": ".join(filter(None, ["Finished", ", ".join(parts), text]))


def _describe_status(event: Mapping[str, Any]) -> str:
    status = response_values.text(event.get("status"), _MAX_NAME)
    return f"Status: {status}" if status else ""


def _describe_files(screenshots: range, files: Sequence[Any]) -> Iterable[str]:
    if len(screenshots) == 1:
        yield f"Screenshot {screenshots[0]}"
    elif screenshots:
        yield f"Screenshots {screenshots[0]} to {screenshots[-1]}"
    if files:
        names = [name for file in files[:_MAX_SHOWN] if (name := _name_file(file))]
        number = "File" if len(files) == 1 else f"{len(files)} files"
        yield f"{number}: {', '.join(names)}" if names else number


def _name_file(file: Any) -> str | None:
    if isinstance(file, dict):
        file = next((file[key] for key in ("name", "filename", "path", "url") if file.get(key)), None)
    return to_line(file, _MAX_NAME) if isinstance(file, str) else None


def _describe_arguments(event: Mapping[str, Any]) -> str:
    call = event.get("tool_call")
    levels = [event, call, call.get("function") if isinstance(call, dict) else None, event.get("tool")]
    for level in levels:
        if isinstance(level, dict):
            for key in _ARGUMENT_KEYS:
                arguments = level.get(key)
                if isinstance(arguments, dict) and arguments:
                    return f"({_list_values(arguments)})"
                if isinstance(arguments, str) and arguments.strip():
                    return f"({to_line(arguments, 3 * _MAX_VALUE)})"
    return ""


def _list_values(values: Mapping[str, Any]) -> str:
    """Return the first simple values as ``number=1, text="a"``."""
    shown = [
        f"{to_line(str(key), _MAX_VALUE)}={_show(value)}"
        for key, value in list(values.items())[: 4 * _MAX_SHOWN]
        if key not in ("type", "task_id") and value is not None
    ]
    return ", ".join(shown[:_MAX_SHOWN]) + (", …" if len(shown) > _MAX_SHOWN else "")


def _show(value: Any) -> str:
    if isinstance(value, str):
        # In quotation marks: the UI turns URLs into links, and includes a bracket or comma that follows.
        return json.dumps(to_line(value, _MAX_VALUE), ensure_ascii=False)
    return "…" if isinstance(value, list | dict) else str(value)


def _find_text(event: Mapping[str, Any]) -> str | None:
    for key in _TEXT_KEYS:
        value = event.get(key)
        if isinstance(value, dict):  # {"error": {"message": "…"}}
            value = next((value[inner] for inner in ("message", "text", "content") if value.get(inner)), None)
        if found := response_values.text(value):
            return found
    return None
