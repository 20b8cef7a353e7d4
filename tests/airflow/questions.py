"""DAG tasks whose agent asks, and what the agent was told."""

from __future__ import annotations

import json
from typing import Any

import pytest

BOTH_SERVICES = pytest.mark.parametrize("kind", ["LightconeTaskOperator", "ShinzoTaskOperator"])


def ask(*questions: str, kind: str = "ShinzoTaskOperator", told: str = "Look.", **arguments: Any) -> str:
    script = {"steps": 2 * len(questions) + 2, "step_seconds": 0, "ask": questions, "result": "done"}
    field = "instruction" if kind.startswith("Lightcone") else "message"
    given = {field: f"#sandbox {json.dumps(script)}\n{told}", **arguments}
    return f"{kind}(task_id='agent', {', '.join(f'{name}={value!r}' for name, value in given.items())})"


def heard(sandbox: Any) -> list[str]:
    """Return what the agent was told, in order."""
    return [message["message"] for task in sandbox.tasks() for message in task["messages"]]


def log_of(capfd: Any) -> str:
    return str(capfd.readouterr().out)
