"""Sources of DAG tasks that start an agent task and go on with it."""

from __future__ import annotations

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
