"""
Defers the tasks of the DAGs ``waiting`` and ``probe``, as their workers would have done.

Writes one line for each task of ``waiting``, in the order of their numbers: its id, and the URL of its
callback if it has one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.benchmarks.contenders import A_DAY, AGENT_ID, CALLED_BACK, CONN_ID, CONTENDERS
from lab.command_line import build_parser, run_command


def defer_all(name: str, interval: float, probe_path: Path) -> Iterator[str]:
    """
    Defer each task instance in Airflow's database, and yield its line.

    :param name: The contender whose triggers wait in the DAG ``waiting``.
    :param interval: Seconds between two of their polls.
    :param probe_path: The file of the probe, for the DAG ``probe``.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.sdk import timezone
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from lab.benchmarks.probe_trigger import ProbeTrigger

    with create_session() as session:
        # The probe last, so that it takes no number from another task.
        query = select(TaskInstance).order_by(TaskInstance.dag_id.desc())
        for number, ti in enumerate(session.scalars(query).all()):
            is_probe = ti.dag_id == "probe"
            built = ProbeTrigger(str(probe_path)) if is_probe else CONTENDERS[name].build(number, interval)
            path, kwargs = built.serialize()
            trigger = Trigger(classpath=path, kwargs=kwargs)
            session.add(trigger)
            session.flush()
            ti.trigger_id, ti.state, ti.next_method = trigger.id, "deferred", "execute_complete"
            ti.start_date = timezone.utcnow()
            if not is_probe:
                yield f"{ti.id} {record(number, ti, session) if name == CALLED_BACK else ''}"


def record(number: int, ti: Any, session: Any) -> str:
    """Store the record of a task's submission, and return the URL of its callback."""
    from airflow.state import get_state_backend

    from airflow_agent_tasks.airflow_compat.ended_tasks import build_scope
    from airflow_agent_tasks.callbacks.settings import PATH, read_base_url, read_secrets
    from airflow_agent_tasks.callbacks.token import CallbackToken, fingerprint, make_token
    from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

    submission = Submission(
        f"bench-{number}",
        try_number=0,
        max_tries=0,
        task_id=str(number),
        agent_id=AGENT_ID,
        submitted_at=time.time(),
        conn_id=CONN_ID,
        is_called_back=True,
    )
    get_state_backend().set(build_scope(ti), RECORD_KEY, json.dumps(submission.to_json()), session=session)
    token = CallbackToken(ti.id, fingerprint(submission.idempotency_key))
    return f"{read_base_url()}{PATH}{make_token(read_secrets(), token, expires_at=time.time() + A_DAY)}"


def main() -> int:
    """Defer the tasks and return the exit status."""
    parser = build_parser("lab.benchmarks.defer_tasks", __doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("interval", type=float, help="seconds between two polls of a task")
    parser.add_argument("probe_path", type=Path, help="the file of the probe in the event loop")
    parser.add_argument("tasks_path", type=Path, help="the file for the list of the tasks")
    given = parser.parse_args()
    with given.tasks_path.open("w") as file:
        for line in defer_all(given.contender, given.interval, given.probe_path):
            file.write(line + "\n")
    return 0


if __name__ == "__main__":
    run_command(main)
