"""
An agent reviews code, and its findings decide which branch the pipeline takes.

```text
review → decide → block_merge    (the agent found an error)
                → approve_merge  (it found none)
```

The review is a Shinzo agent task; `decide` is an ordinary `@task.branch` that reads its `result`.
Trigger it with another `path` to review something else.

**Connection:** `shinzo_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of the message, `#sandbox …`, only
scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from airflow.sdk import dag, task

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

# The answer of the sandbox, which does not review anything. Leave it out with a real service.
SANDBOX_SCRIPT = "#sandbox " + json.dumps(
    {
        "steps": 5,
        "step_seconds": 0.4,
        "result": {
            "summary": "One error, one warning",
            "findings": [
                {"file": "src/login.js", "line": 17, "severity": "error", "message": "Password is logged"},
                {
                    "file": "src/utils.js",
                    "line": 42,
                    "severity": "warning",
                    "message": "Use optional chaining",
                },
            ],
        },
    }
)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={"path": "/workspace/src"},
    doc_md=__doc__,
    tags=["agent-tasks", "example", "shinzo", "branching"],
)
def code_review() -> None:
    review = ShinzoTaskOperator(
        task_id="review",
        agent_id="agt_code_review",
        # Every start field is templated, so each run can have a different path.
        message=SANDBOX_SCRIPT + "\nReview the code in {{ params.path }} and list your findings.",
        metadata={"project": "frontend-app"},
        deferrable=True,
        timeout=30 * 60,
    )

    @task.branch
    def decide(agent_task: dict[str, Any]) -> str:
        """Return the task to continue with."""
        findings = agent_task["result"]["findings"]
        return (
            "block_merge" if any(finding["severity"] == "error" for finding in findings) else "approve_merge"
        )

    @task
    def block_merge(agent_task: dict[str, Any]) -> list[str]:
        """Return the errors; a real pipeline would set a status on the pull request."""
        return [
            f"{finding['file']}:{finding['line']} {finding['message']}"
            for finding in agent_task["result"]["findings"]
            if finding["severity"] == "error"
        ]

    @task
    def approve_merge() -> str:
        """Approve the merge."""
        return "approved"

    decide(review.output) >> [block_merge(review.output), approve_merge()]


code_review()
