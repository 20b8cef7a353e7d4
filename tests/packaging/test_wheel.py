"""The wheel in an empty environment: it installs, and Airflow finds all that it brings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

READ_CONNECTION_FORMS = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
forms = {meta.connection_type: meta for meta in HookMetaService.hook_meta_data()}
print(json.dumps({name: forms[name].model_dump() for name in ("lightcone", "shinzo")}, default=str))
"""
LIST_FILES = """
from importlib.metadata import files
print(*files("airflow-agent-tasks"), sep="\\n")
"""


class EmptyEnvironment:
    """A virtual environment that holds the wheel and what it asks for, and an Airflow home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))
        }
        # The second as for pip: a proxy or a package index may have a certificate of its own.
        ours = {"AIRFLOW_HOME": str(folder / "home"), "UV_SYSTEM_CERTS": "true", "COLUMNS": "400"}
        self._environment = {**kept, **ours}

    def run(self, program: str, *arguments: str) -> str:
        path = self._folder / "venv" / "bin" / program
        return self.run_any(str(path), *arguments)

    def run_any(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self._environment, cwd=self._folder, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def read_json(self, program: str, *arguments: str) -> Any:
        # Airflow may log lines before the JSON.
        return json.loads(self.run(program, *arguments).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> EmptyEnvironment:
    folder = tmp_path_factory.mktemp("wheel")
    environment = EmptyEnvironment(folder)
    environment.run_any(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)
    )
    (wheel,) = folder.glob("*.whl")
    # uv keeps what it has unpacked: pytest-xdist may run this once in each of its processes.
    uv = str(Path(sys.executable).with_name("uv"))
    environment.run_any(uv, "venv", "-q", "--python", sys.executable, str(folder / "venv"))
    python, pins = str(folder / "venv" / "bin" / "python"), str(ROOT / "constraints.txt")
    environment.run_any(uv, "pip", "install", "-q", "--python", python, "-c", pins, str(wheel))
    return environment


def test_the_wheel_is_typed_and_brings_neither_tests_nor_lab(installed: EmptyEnvironment) -> None:
    listed = installed.run("python", "-c", LIST_FILES)
    assert "airflow_agent_tasks/py.typed" in listed
    assert "tests/" not in listed
    assert "lab/" not in listed


def test_airflow_lists_the_provider(installed: EmptyEnvironment) -> None:
    (provider,) = [
        row
        for row in installed.read_json("airflow", "providers", "list", "-o", "json")
        if row["package_name"] == "airflow-agent-tasks"
    ]
    project = (ROOT / "pyproject.toml").read_text()
    assert re.findall(r'^version = "(.+)"$', project, re.MULTILINE) == [provider["version"]]


def test_airflow_lists_the_plugin_once_and_without_a_warning(installed: EmptyEnvironment) -> None:
    plugins = installed.read_json("airflow", "plugins", "-o", "json")
    assert [row["name"] for row in plugins if "agent" in row["name"]] == ["agent_tasks"]


def test_the_connection_forms_are_there(installed: EmptyEnvironment) -> None:
    forms = installed.read_json("python", "-c", READ_CONNECTION_FORMS)
    network = {"timeout", "verify", "proxy", "requests_per_second", "allow_insecure_http", "task_url"}
    network |= {"max_concurrent_tasks"}
    assert set(forms["lightcone"]["extra_fields"]) == network
    assert set(forms["shinzo"]["extra_fields"]) == network | {"agent_id"}
    for name, key_label in (("lightcone", "API key"), ("shinzo", "JWT or platform API key")):
        standard = forms[name]["standard_fields"]
        assert standard["password"]["title"] == key_label
        assert standard["host"]["title"] == "Base URL"
        assert standard["login"]["hidden"]


def test_the_decorators_are_there(installed: EmptyEnvironment) -> None:
    said = installed.run(
        "python", "-c", "from airflow.sdk import task; print(task.lightcone.__name__, task.shinzo.__name__)"
    )
    assert "lightcone_task shinzo_task" in said


def test_the_sandbox_is_a_command_of_airflow(installed: EmptyEnvironment) -> None:
    assert "--port" in installed.run("airflow", "agent-tasks", "sandbox", "--help")
