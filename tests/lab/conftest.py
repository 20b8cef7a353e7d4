"""Programs of a cluster without an Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster.airflow_environment import build_clean_environment
from lab.cluster.cluster_programs import ClusterPrograms


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[ClusterPrograms]:
    """An empty cluster, whose programs end with the test."""
    programs = ClusterPrograms(tmp_path / "home", build_clean_environment())
    programs.prepare()
    yield programs
    programs.stop(grace=0)
