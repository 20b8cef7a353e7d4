"""
What a cluster notes down in its home about the programs that it runs.

Another process can then stop a cluster that was left running, and the next start can end what a killed
owner left.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from processes import Leader, end_families, is_running

RECORD_NAME = "cluster.json"


@dataclass(frozen=True)
class ClusterRecord:
    """
    The programs of one cluster.

    :param url: The address of Airflow's page; empty until it is known.
    :param owner: The process that stops the cluster in the end, or None where it was left running.
    :param leaders: The first process of every program.
    """

    url: str = ""
    owner: Leader | None = None
    leaders: list[Leader] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        """True while any of the programs runs."""
        return any(is_running(leader) for leader in self.leaders)

    @property
    def is_in_use(self) -> bool:
        """True while the owner runs, or, without an owner, any of the programs."""
        return is_running(self.owner) if self.owner else self.is_running

    def write(self, home: Path) -> None:
        """Replace the record in ``home``, in one step: a reader never sees half of it."""
        draft = home / f"{RECORD_NAME}.new"
        draft.write_text(json.dumps(asdict(self), indent=2))
        draft.replace(home / RECORD_NAME)

    def end_programs(self) -> None:
        """End everything that still runs."""
        end_families(self.leaders)


def read_record(home: Path) -> ClusterRecord | None:
    """Return the record of the cluster in ``home``, or None where there was never one."""
    try:
        content = json.loads((home / RECORD_NAME).read_text())
    except FileNotFoundError:
        return None
    return ClusterRecord(
        url=content["url"],
        owner=Leader(**content["owner"]) if content["owner"] else None,
        leaders=[Leader(**leader) for leader in content["leaders"]],
    )
