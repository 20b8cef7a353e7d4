"""The DAG with which users of a managed Airflow ask the doctor: in a task, which may not use the database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "managed-airflow.md"
(DAG,) = re.findall(r'```python title="dags/doctor.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
DAGS = {"doctor.py": DAG}


def test_the_doctor_of_the_page_prints_its_rows(cluster: Any) -> None:
    run_id = cluster.api.trigger("doctor")
    cluster.wait_for_run("doctor", run_id, timeout=180)
    (task,) = cluster.api.list_tasks("doctor", run_id)
    log = "\n".join(cluster.api.read_log(task))
    assert "Could not parse SQLAlchemy URL" not in log
    for finding in (r"plugin\b.*\bok\b.*loaded in the API server", r"secret key\b.*\bok\b.*is the same"):
        assert re.search(finding, log), log
