"""Where the demo keeps its things. Imports nothing that has to be installed: ``make down`` works without."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE_DAGS = ROOT / "example_dags"
#: The homes of ``make demo`` and of ``make up``: both may run at the same time.
DEMO_HOME = ROOT / ".demo" / "run"
UP_HOME = ROOT / ".demo" / "up"
#: The SQLite file that company_research writes, within a home.
ANSWERS_NAME = "company_research.db"
