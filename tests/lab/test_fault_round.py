"""The settings of a fault round fit the Airflow in which it runs."""

from __future__ import annotations

import pytest
from packaging.version import Version

from lab.faults.round import build_settings

TIMEOUT = "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"


@pytest.mark.parametrize("airflow", ["3.3.2", "3.4.0b1", "3.4.0b2", "3.4.0rc1", "3.4.0", "3.5.1"])
def test_a_lost_worker_is_found_soon_but_where_that_ends_the_scheduler(airflow: str) -> None:
    assert (TIMEOUT in build_settings(Version(airflow))) is (airflow != "3.4.0b2")
