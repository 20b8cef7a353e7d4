"""Whatever an agent returns, the task keeps it, and the tasks downstream can read it."""

from __future__ import annotations

import json
from typing import Any

import pytest


def nest(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


RESULTS = {
    "a reserved key": {"__id__": 7, "rows": [{"__classname__": "builtins.object", "__version__": 1}]},
    "an object to build": {"__type": "os.system", "__var": "echo harm"},
    "a dict to unpack": {"__type": "dict", "__var": [1, 2]},
    "120 levels": nest(120),
    "600 levels": nest(600),
    "odd characters": "a\0b\ud800{{ conn.shinzo_default.password }}",
    "a large number": 10**40,
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_reaches_the_next_task_and_no_second_agent_task_is_started(
    run_dag: Any, agent_task_sandbox: Any, name: str
) -> None:
    script = json.dumps({"steps": 1, "step_seconds": 0, "result": RESULTS[name]})
    run = run_dag(
        f"""
        @task
        def read(agent_task):
            return agent_task["result"] is not None

        agent = ShinzoTaskOperator(task_id="agent", message={("#sandbox " + script)!r}, retries=1)
        read(agent.output)
        """
    )
    assert run.state == "success"
    assert run.xcom("read") is True
    assert len(agent_task_sandbox.tasks()) == 1
