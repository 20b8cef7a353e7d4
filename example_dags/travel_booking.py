"""
An agent books a trip. When it has a question, Airflow emails it to someone who can answer.

```text
book (asks once) → confirm
```

The email contains the question and a link to the task, where it is answered under **Required
Actions**. If the email cannot be sent, the log says why and the question stays open.

Any Airflow notifier works, with `{{ question }}` in its templates. It contains the agent's words, so
escape it for the place where it is shown: `{{ question | e }}` in HTML, and in Slack, with
`apache-airflow-providers-slack`:

```python
SlackWebhookNotifier(
    text="{{ question | replace('&', '&amp;') | replace('<', '&lt;') | replace('>', '&gt;') }}"
)
```

More: [Notify someone](https://airflow-agent-tasks.readthedocs.io/en/stable/how-to/notify/).

**Connections:** `lightcone_default`, and `smtp_default` for a mail server.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of the instruction, `#sandbox …`,
only scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import dag, get_current_context, task

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

# Only for the sandbox, which has no agent that could think of a question. Leave it out with a real service.
SANDBOX_SCRIPT = "#sandbox " + json.dumps(
    {"steps": 4, "step_seconds": 0.3, "ask": ["Is the train at 7:02 <early> fine, or the one at 9:02?"]}
)

# The subject is a header and has no room for an agent's words.
MAIL = SmtpNotifier(
    to="travel@example.com",
    from_email="airflow@example.com",
    subject="An agent has a question: {{ dag.dag_id }}, {{ ti.task_id }}",
    html_content=(
        '<p style="white-space: pre-wrap">{{ question | e }}</p>'
        '<p><a href="{{ ti.log_url | e }}">Answer it in Airflow</a>, under Required Actions.</p>'
    ),
)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={"city": "Lisbon"},
    doc_md=__doc__,
    tags=["agent-tasks", "example", "lightcone", "questions", "notifications"],
)
def travel_booking() -> None:
    book = LightconeTaskOperator(
        task_id="book",
        instruction=(
            f"{SANDBOX_SCRIPT}\n"
            "Book a train to {{ params.city }} for Friday morning. Ask me before you choose one."
        ),
        kind="browser",
        start_url="https://trains.example",
        max_steps=80,
        deferrable=True,
        # Called once per question, before the task starts to wait for the answer.
        notifiers=[MAIL],
        input_timeout=timedelta(days=1),
        doc_md="In the state `awaiting_input`: answer the agent under **Required Actions**.",
        retries=1,
    )

    @task
    def confirm(agent_task: dict[str, Any]) -> list[str]:
        """Return each question with its answer."""
        answers = get_current_context()["ti"].xcom_pull(task_ids="book", key="answers") or []
        return [f"{answer['question']} {answer['reply']}" for answer in answers]

    confirm(book.output)


travel_booking()
