"""What Airflow stored of tasks of version 0.1.0; the README beside it says how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_agent_tasks.services.base import Dialect
from tests.service_samples import DIALECTS


def load(name: str) -> dict[str, dict[str, Any]]:
    """Return the samples of one file, by name."""
    found: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name(f"{name}.json").read_text())
    return found


def dialect_of(conn_id: str) -> Dialect:
    """Return the service of a sample's connection."""
    return DIALECTS[conn_id.removesuffix("_default")]
