"""
The file in a cluster's home that lists its running programs.

It lets another process stop a cluster that was left running, and the next start stop what a killed owner left
behind.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.cluster.processes import SessionLeader, end_process_trees, is_running

STATE_NAME = "cluster.json"


@dataclass(frozen=True)
class ClusterState:
    """
    The programs of one cluster.

    :param url: The address of the Airflow UI; empty until it is known.
    :param owner: The process that will stop the cluster, or None if it was left running.
    :param leaders: The first process of every program.
    """

    url: str = ""
    owner: SessionLeader | None = None
    leaders: list[SessionLeader] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        """True while any of the programs is running."""
        return any(is_running(leader) for leader in self.leaders)

    @property
    def is_in_use(self) -> bool:
        """True while the owner, or without an owner any of the programs, is running."""
        return is_running(self.owner) if self.owner else self.is_running

    def write(self, home: Path) -> None:
        """Replace the file in ``home`` atomically."""
        draft = home / f"{STATE_NAME}.new"
        draft.write_text(json.dumps(asdict(self), indent=2))
        draft.replace(home / STATE_NAME)

    def end_programs(self) -> None:
        """End everything that is still running."""
        end_process_trees(self.leaders)


def read_cluster_state(home: Path) -> ClusterState | None:
    """Return the state of the cluster in ``home``, or None if the file does not exist."""
    try:
        content = json.loads((home / STATE_NAME).read_text())
    except FileNotFoundError:
        return None
    return ClusterState(
        url=content["url"],
        owner=SessionLeader(**content["owner"]) if content["owner"] else None,
        leaders=[SessionLeader(**leader) for leader in content["leaders"]],
    )
