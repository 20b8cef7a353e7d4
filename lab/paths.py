"""Folders of the checkout. Imports only the standard library: ``make down`` works without ``.venv``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE_DAGS = ROOT / "example_dags"
#: The home of each command's Airflow: the commands can run at the same time.
HOMES = ROOT / ".demo"
