"""Defers the tasks of the DAGs ``waiting`` and ``probe``, as their workers would have done."""

from __future__ import annotations

from pathlib import Path

from lab.benchmarks.contenders import CONTENDERS
from lab.command_line import build_parser, run_command


def defer_all(name: str, interval: float, probe_path: Path) -> None:
    """
    Defer each task instance in Airflow's database.

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
        for number, ti in enumerate(session.scalars(select(TaskInstance)).all()):
            is_probe = ti.dag_id == "probe"
            built = ProbeTrigger(str(probe_path)) if is_probe else CONTENDERS[name].build(number, interval)
            path, kwargs = built.serialize()
            trigger = Trigger(classpath=path, kwargs=kwargs)
            session.add(trigger)
            session.flush()
            ti.trigger_id, ti.state, ti.next_method = trigger.id, "deferred", "execute_complete"
            ti.start_date = timezone.utcnow()


def main() -> int:
    """Defer the tasks and return the exit status."""
    parser = build_parser("lab.benchmarks.defer_tasks", __doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("interval", type=float, help="seconds between two polls of a task")
    parser.add_argument("probe_path", type=Path, help="the file of the probe in the event loop")
    given = parser.parse_args()
    defer_all(given.contender, given.interval, given.probe_path)
    return 0


if __name__ == "__main__":
    run_command(main)
