"""What Airflow's database says about the tasks of the run, also while the API servers are down."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lab.cluster_run.plan import find_number

#: The states in which no further try starts by itself.
END_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_TASKS = """
    SELECT task_id, map_index, state, try_number, end_date FROM task_instance
    WHERE dag_id = :dag_id AND run_id = :run_id AND map_index >= 0
"""
_XCOMS = """
    SELECT task_id, map_index, key, value FROM xcom
    WHERE dag_id = :dag_id AND run_id = :run_id AND key IN ('return_value', 'error')
"""


@dataclass(frozen=True)
class AirflowTask:
    """
    A mapped task instance.

    :param number: The number of its planned task.
    :param state: Its state, or None before it was scheduled.
    :param tries: How often it was started.
    :param ended_at: When it ended, in seconds since 1970, or None.
    :param xcoms: Its result and its error in XCom, if there are any.
    """

    number: int
    state: str | None
    tries: int
    ended_at: float | None
    xcoms: dict[str, Any] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """True if no further try starts by itself."""
        return self.state in END_STATES


class AirflowRows:
    """
    The tables of a running Airflow.

    :param url: The SQLAlchemy URL of its database.
    """

    def __init__(self, url: str) -> None:
        # Imported here, so that the commands print their help without it.
        from sqlalchemy import create_engine

        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def list_tasks(
        self, dag_id: str, run_id: str, *, first: int = 0, with_xcoms: bool = False
    ) -> list[AirflowTask]:
        """
        Return the mapped task instances of a run.

        :param first: The number of the first planned task of the DAG.
        """
        run = {"dag_id": dag_id, "run_id": run_id}
        xcoms: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        for task_id, map_index, key, value in self._select(_XCOMS, **run) if with_xcoms else []:
            xcoms[task_id, map_index][key] = value
        return [
            AirflowTask(
                first + find_number(task_id, map_index),
                state,
                tries,
                _read_time(end) if state in END_STATES else None,
                xcoms[task_id, map_index],
            )
            for task_id, map_index, state, tries, end in self._select(_TASKS, **run)
        ]

    def count_rows(self) -> Counter[str]:
        """Return the number of rows of each table."""
        tables = self._select(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        return Counter({table: self._select(f'SELECT count(*) FROM "{table}"')[0][0] for (table,) in tables})  # noqa: S608

    @property
    def port(self) -> int | None:
        """The TCP port of the database's server."""
        return self._engine.url.port

    def count_running_triggers(self) -> int:
        """Return the number of triggers that a triggerer has taken."""
        return int(self._select("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL")[0][0])

    def count_triggerers(self) -> int:
        """Return the number of triggerers that have taken a trigger."""
        return int(self._select("SELECT count(DISTINCT triggerer_id) FROM trigger")[0][0])

    def find_postmaster(self) -> int:
        """Return the id of PostgreSQL's first process."""
        folder = self._select("SELECT current_setting('data_directory')")[0][0]
        return int((Path(folder) / "postmaster.pid").read_text().split()[0])

    def _select(self, statement: str, **parameters: Any) -> list[Any]:
        from sqlalchemy import text

        with self._engine.connect() as connection:
            return list(connection.execute(text(statement), parameters).all())


def _read_time(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None
