"""What the benchmark counts, as far as no clock is needed for it: requests, connections, events."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.benchmarks.mock_service_process import MockServiceControl, run_mock_service

TASKS = 300


def test_hundreds_of_tasks_share_a_hundred_connections_and_each_gets_its_event(tmp_path: Path) -> None:
    with run_mock_service(tmp_path) as url:
        done = subprocess.run(
            [sys.executable, "-m", "lab.benchmarks.measure_waiting", "ours", url, str(TASKS), "1", "3"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        counts = MockServiceControl(url).read_counts()
    # The benchmark itself opens some more, to read the counts.
    assert counts["connections"] <= 100 + 10
    assert counts["polled"] == measured["ended"] == TASKS
    # Nothing was said but on change.
    assert "Seen" not in done.stderr
