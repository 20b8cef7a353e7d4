"""The OpenLineage run facet, as the provider sends it, and what happens without that provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_agent_tasks.operators.lineage import FACET, PRODUCER, SCHEMA
from lab.paths import ROOT

pytest.importorskip("airflow.providers.openlineage", reason="the provider needs Python 3.11")
SCHEMAS = Path(__file__).parents[3] / "docs" / "reference" / "schemas"
DAG = """
from airflow.sdk import DAG, Asset
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

REPORT = Asset("file:///reports/today.json")
with DAG("DAG_ID", schedule=None) as dag:
    ShinzoTaskOperator(
        task_id="works",
        message='#sandbox {"queued_seconds": 1, "usage": {"cost": 1.5, "odd": 3}}',
        deferrable=True,
        poll_interval=0.2,
        outlets=[REPORT],
    )
    LightconeTaskOperator(task_id="fails", instruction='#sandbox {"exit_code": 3}', poll_interval=0.2)

if __name__ == "__main__":
    dag.test()
"""


def run_dag(airflow_home: Path, output: Path, preamble: str = "", **settings: str) -> int:
    """Run the DAG in a process of its own; its exit code is returned, what it prints is in the file."""
    number = os.urandom(4).hex()
    file = airflow_home / "dags" / f"lineage_{number}.py"
    file.write_text(preamble + DAG.replace("DAG_ID", f"lineage_{number}"))
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
    # Into a file: the provider forks, and what it leaves behind would hold a pipe open.
    with output.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, str(file)],
            **{"stdout": written, "stderr": written, "env": environment, "start_new_session": True},
        )
        try:
            return process.wait(180)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            file.unlink()


def read_ends(file: Path) -> dict[str, dict[str, Any]]:
    """Return the event with which each task ended."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    ends = [event for event in events if event["eventType"] in ("COMPLETE", "FAIL")]
    return {name: event for event in ends if (name := event["job"]["name"].rpartition(".")[2])}


def test_the_events_of_the_provider_have_the_facet_and_the_outlets(
    airflow_home: Path, agent_task_sandbox: Any, tmp_path: Path
) -> None:
    sent = tmp_path / "events.json"
    transport = {"type": "file", "log_file_path": str(sent), "append": True}
    output = tmp_path / "output"
    settings = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        # The provider ends its process after 10 s, which a busy machine may take to start it.
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "100",
    }
    assert run_dag(airflow_home, output, **settings) == 0, output.read_text()[-3000:]
    ends = read_ends(sent)
    tasks = {task["service"]: task["task_id"] for task in agent_task_sandbox.tasks()}
    works, fails = (ends[name]["run"]["facets"][FACET] for name in ("works", "fails"))
    assert (works["state"], works["agentTaskId"]) == ("completed", tasks["shinzo"])
    assert (works["usage"], works.get("exitCode")) == ({"cost": 1.5}, None)
    assert works["queuedSeconds"] == 1
    assert works["runningSeconds"] > 0
    assert (fails["state"], fails["exitCode"], fails["service"]) == ("failed", 3, "lightcone")
    assert [(one["namespace"], one["name"]) for one in ends["works"]["outputs"]] == [
        ("file", "/reports/today.json")
    ]
    for facet in (works, fails):
        assert (facet["_producer"], facet["_schemaURL"]) == (PRODUCER, SCHEMA)
        check_schema(facet)
    for event in ends.values():
        check_with_client(event)


def check_schema(facet: dict[str, Any]) -> None:
    """Validate a facet by its published schema, with its base as the specification has it."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    schema = json.loads((SCHEMAS / SCHEMA.partition("/schemas/")[2]).read_text())
    assert schema["$id"] == SCHEMA
    text = {"type": "string", "format": "uri"}
    base = {"type": "object", "properties": {"_producer": text, "_schemaURL": text}}
    base["required"] = ["_producer", "_schemaURL"]
    specification = {"$schema": schema["$schema"], "$defs": {"RunFacet": base}}
    address = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
    registry = Registry().with_resource(address, Resource.from_contents(specification))
    Draft202012Validator(schema, registry=registry).validate(facet)


def check_with_client(event: dict[str, Any]) -> None:
    """Build the event again with OpenLineage's own client, which validates it and writes the same JSON."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.serde import Serde

    run = Run(runId=event["run"]["runId"], facets=event["run"]["facets"])
    job = Job(namespace=event["job"]["namespace"], name=event["job"]["name"], facets=event["job"]["facets"])
    built = RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=run,
        job=job,
        eventType=RunState(event["eventType"]),
    )
    written = json.loads(Serde.to_json(built))
    assert written["run"] == event["run"]
    assert written["job"] == event["job"]


#: Before anything else: OpenLineage cannot be imported, as where it is not installed.
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        # Airflow reads the metadata of each provider that is installed.
        is_metadata = name.endswith((".openlineage", ".get_provider_info"))
        if name.startswith("openlineage") or ("providers.openlineage" in name and not is_metadata):
            print("IMPORTED", name, file=sys.stderr)
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
"""


def test_without_the_provider_nothing_of_it_is_imported(
    airflow_home: Path, agent_task_sandbox: Any, tmp_path: Path
) -> None:
    program = f"{BLOCKED}\nfrom airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator\n"
    program += "operator = ShinzoTaskOperator(task_id='a', message='Work.')\n"
    program += "assert operator.describe_lineage() is None\nprint('opentelemetry.sdk' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, "IMPORTED" in ended.stderr) == (0, False), ended.stderr
    output = tmp_path / "output"
    assert run_dag(airflow_home, output, BLOCKED) == 0, output.read_text()[-3000:]
    assert all(task["status"] in ("completed", "failed") for task in agent_task_sandbox.tasks())
