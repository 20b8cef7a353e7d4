"""Airflow's alarm may ring while a failure is reported; it does not take the failure's place."""

from __future__ import annotations

from typing import Any

import pytest


def test_an_alarm_while_a_failure_is_reported_changes_nothing(airflow_home: Any, mocker: Any) -> None:
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from airflow_agent_tasks.errors import AgentTaskTimeoutError
    from airflow_agent_tasks.worker.failures import reported_failures

    task_instance = mocker.Mock(try_number=1, max_tries=0)
    task_instance.xcom_push.side_effect = [AirflowTaskTimeout("rings"), None]
    with (
        pytest.raises(AgentTaskTimeoutError, match="too long"),
        reported_failures(task_instance, mocker.Mock(), pushes_xcoms=True),
    ):
        raise AgentTaskTimeoutError("It took too long.")
    assert task_instance.xcom_push.call_count == 2
