from __future__ import annotations

import json
import os
import subprocess
import sys


def test_it_points_the_default_connections_to_itself(agent_task_sandbox):
    lightcone = json.loads(os.environ["AIRFLOW_CONN_LIGHTCONE_DEFAULT"])
    shinzo = json.loads(os.environ["AIRFLOW_CONN_SHINZO_DEFAULT"])
    common = {"host": agent_task_sandbox.url, "password": agent_task_sandbox.api_key}
    page = {"task_url": f"{agent_task_sandbox.url}/_sandbox/tasks/{{task_id}}"}
    assert lightcone == {"conn_type": "lightcone", **common, "extra": page}
    assert shinzo == {"conn_type": "shinzo", **common, "extra": {"agent_id": "agt_sandbox", **page}}


A_TEST_OF_A_USER = """
import os
import sys

import pytest
import requests

HEAVY = {"airflow", "fastapi", "uvicorn", "starlette", "pydantic", "aiohttp", "requests"}


def test_nothing_heavy_is_imported_unless_used():
    assert os.environ["LOADED_BY_PLUGIN"] == ""


@pytest.mark.parametrize("time", [1, 2])
def test_each_test_finds_it_empty(agent_task_sandbox, time):
    assert agent_task_sandbox.requests() == []
    assert agent_task_sandbox.tasks() == []
    agent_task_sandbox.faults([{"status": 529}])
    assert requests.get(f"{agent_task_sandbox.url}/agent/tasks/x").status_code == 529
    assert "AIRFLOW_CONN_MINE" not in os.environ
    if time == 1:
        agent_task_sandbox.faults([{"status": 500, "times": 100}])
        agent_task_sandbox.connect("mine", service="shinzo")
        agent_task_sandbox.script(match="milk", steps=7)


def test_the_environment_is_put_back():
    assert "AIRFLOW_CONN_MINE" not in os.environ
    assert "AIRFLOW_CONN_LIGHTCONE_DEFAULT" not in os.environ
"""

A_CONFTEST_OF_A_USER = """
import os
import sys

HEAVY = {"airflow", "fastapi", "uvicorn", "starlette", "pydantic", "aiohttp", "requests"}
os.environ["LOADED_BY_PLUGIN"] = ",".join(sorted(HEAVY & set(sys.modules)))
"""


def test_a_user_gets_the_fixture_by_installing_the_package(tmp_path):
    (tmp_path / "conftest.py").write_text(A_CONFTEST_OF_A_USER)
    (tmp_path / "test_of_a_user.py").write_text(A_TEST_OF_A_USER)
    # Other plugins of this environment load heavy packages by themselves; only ours is looked at.
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "AIRFLOW_CONN_"))
        },
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "airflow_agent_tasks.sandbox.pytest_plugin",
            "-q",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout
