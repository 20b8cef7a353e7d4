"""Started agent tasks: sources of DAG tasks that go on with one, and what a kill looks at."""

from __future__ import annotations

from airflow_agent_tasks.agent_task import StartedTask

#: The states of a task instance in which nothing waits for its agent task, and those in which something does.
ENDED = ["failed", "success", "skipped", "removed"]
WAITED_FOR = ["deferred", "scheduled", "queued", "restarting", "up_for_retry", "awaiting_input", None]
SLOW = '#sandbox {"steps": 200, "step_seconds": 1}'


def start(service: str, script: str = SLOW) -> str:
    if service == "shinzo":
        return f"start = ShinzoTaskOperator(task_id='start', message={script!r}, wait_for_completion=False)\n"
    return (
        f"start = LightconeTaskOperator(task_id='start', instruction={script!r}, wait_for_completion=False)\n"
    )


def then(service: str, *tasks: str) -> str:
    target = f"agent_task_id=start.output['task_id'], conn_id='{service}_default'"
    return "chain(start, " + ", ".join(task.replace("TARGET", target) for task in tasks) + ")\n"


def conn_id_of(started: StartedTask) -> str:
    return "shinzo_default" if started.agent_id else "lightcone_default"
