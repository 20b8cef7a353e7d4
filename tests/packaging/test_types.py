"""mypy and pyright, as users run them on DAG files: they find each misspelt argument, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

DAG_FILE = """
from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_agent_tasks.decorators.agent_task import lightcone_task, shinzo_task
from airflow_agent_tasks.operators.agent_task import AgentTaskCancelOperator, AgentTaskMessageOperator
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor


def answer(question: str) -> str | None:
    return "Use the London office." if question == "Which office?" else None


with DAG("research", default_args={"retries": 2}):
    order = LightconeTaskOperator(
        task_id="order",
        instruction="Order paper.",
        max_steps=50,
        skip_on_exit_code=[99],
        timeout=timedelta(hours=1),
        on_failure_callback=lambda context: None,
    )
    check = ShinzoTaskOperator(
        task_id="check",
        message="Check the supplier.",
        agent_id="agt_1",
        deferrable=True,
        reply=answer,
        assigned_users={"id": "7", "name": "Ada"},
        retries=2,
        retry_delay=timedelta(minutes=5),
        pool="agents",
        trigger_rule="all_done",
    )
    say = AgentTaskMessageOperator(task_id="say", agent_task_id="tsk_1", conn_id="shinzo", message="Go on.")
    stop = AgentTaskCancelOperator(task_id="stop", agent_task_id="tsk_1", conn_id="shinzo", outlets=[])
    wait = AgentTaskSensor(
        task_id="wait",
        agent_task_id="tsk_1",
        conn_id="shinzo",
        target_states=["paused", "completed"],
        poke_interval=timedelta(minutes=1),
        mode="reschedule",
        soft_fail=True,
        priority_weight=2,
    )
    ShinzoTaskOperator.partial(task_id="mapped", timeout=60).expand(message=["a", "b"])

    @lightcone_task(kind="browser", input_timeout=600, task_id="read_about")
    def read(topic: str) -> str:
        return "Read about " + topic

    @shinzo_task
    def write() -> str:
        return "Write a summary."

    @task.shinzo(priority=2)
    def think() -> str:
        return "Think about it."

    chain = order >> check >> say >> stop >> wait
    topics = read("whales")
    write.override(retries=0)()
    think.override(task_id="think_twice")()
    think()
"""

#: In each file, what is written above, and what is written instead.
CHANGES: dict[str, dict[str, str]] = {
    "right.py": {},
    "misspelt.py": {
        "timeout=timedelta": "tiemout=timedelta",
        "deferrable=": "deferable=",
        "retries=2,": "retires=2,",
    },
    "misspelt_elsewhere.py": {"input_timeout=": "input_timout=", "outlets=": "outlet=", "reply=": "replies="},
    "misspelt_sensor.py": {
        "target_states=": "target_state=",
        "soft_fail=": "softfail=",
        "priority_weight=": "prio_weight=",
    },
    # The services have no use for the first two; the third is what the function returns.
    "ignored.py": {
        "max_steps=50": 'agent_id="agt_1"',
        'pool="agents"': "skip_on_exit_code=99",
        'kind="browser"': 'instruction="Read."',
    },
}


def write_files(folder: Path) -> None:
    for name, changes in CHANGES.items():
        source = DAG_FILE
        for before, after in changes.items():
            assert source.count(before) == 1, before
            source = source.replace(before, after)
        (folder / name).write_text(source)


def run_checker(folder: Path, checker: str, *arguments: str) -> dict[str, list[str]]:
    """Return what a checker of the virtual environment reports about the files: the errors of each."""
    command = [str(Path(sys.executable).with_name(checker)), *arguments, *CHANGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    errors: dict[str, list[str]] = {name: [] for name in CHANGES}
    for name, error in re.findall(r"(\w+\.py):\d+:.*?error: (.*)$", done.stdout, re.MULTILINE):
        errors[name].append(error)
    assert done.returncode == 1, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return errors


def run_mypy(folder: Path) -> dict[str, list[str]]:
    # Nearly all the time goes into Airflow's modules, so what is known of them is kept from run to run.
    cache = ROOT / ".mypy_cache" / "dag_files"
    return run_checker(folder, "mypy", "--config-file=", "--cache-dir", str(cache))


def run_pyright(folder: Path) -> dict[str, list[str]]:
    return run_checker(folder, "pyright", "--pythonpath", sys.executable)


@pytest.mark.parametrize("run", [run_mypy, run_pyright])
def test_each_misspelt_argument_is_one_error(run: Any, tmp_path: Path) -> None:
    write_files(tmp_path)
    for name, errors in run(tmp_path).items():
        wrong = [re.match(r"\w+", after)[0] for after in CHANGES[name].values()]  # type: ignore[index]
        assert sorted(re.findall(r'"(\w+)"', error)[0] for error in errors) == sorted(wrong), errors
