"""The page of a simulated task for people: it stands for the service's own."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from airflow_agent_tasks.text import clean

LONGEST_TEXT = 4_000
_REFRESH_SECONDS = 2
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "th{text-align:left;vertical-align:top;padding-right:2rem}pre{white-space:pre-wrap;margin:0}"
)


def render_task(task: dict[str, Any]) -> bytes:
    """
    Return the page of a task, in HTML without a script.

    :param task: The task as ``/_sandbox/tasks`` lists it.
    """
    # Reloading an ended task would take away what a reader has marked or scrolled to.
    refresh = f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">' if task["ended_at"] is None else ""
    title = escape(f"Agent task {task['task_id']}")
    rows = "".join(f"<tr><th>{name}</th><td>{_show(value)}</td></tr>" for name, value in _list_rows(task))
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{refresh}'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><table>{rows}</table></body></html>"
    )
    return page.encode("utf-8", "replace")


def _list_rows(task: dict[str, Any]) -> list[tuple[str, Any]]:
    request = task["request"]
    rows = [
        ("Service", task["service"]),
        ("Agent", task["agent_id"]),
        ("State", task["status"]),
        ("Exit code", task["exit_code"]),
        ("Steps", f"{task['steps_completed']} of {task['total_steps']}"),
        ("Question", task["question"]),
        ("Instruction", request.get("instruction", request.get("message"))),
        *(("Message", message["message"]) for message in task["messages"]),
        ("Usage", task["usage"]),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2)
    end = "…" if len(text) > LONGEST_TEXT else ""
    return f"<pre>{escape(clean(text, LONGEST_TEXT))}{end}</pre>"
