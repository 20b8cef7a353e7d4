"""``python -m airflow_agent_tasks.sandbox``."""

from __future__ import annotations

from airflow_agent_tasks.sandbox.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
