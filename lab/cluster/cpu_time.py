"""The CPU time of programs with everything they started, also of what has exited meanwhile. Linux only."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple


class _Entry(NamedTuple):
    parent: int
    session: int
    ticks: int


def read_cpu_seconds(leaders: Collection[int]) -> dict[int, float]:
    """
    Return the CPU seconds so far, in user and kernel mode, of these programs with everything they started.

    A process counts as long as it exists, also as a zombie; after that, it counts as one of those that its
    parent has waited for. Only a process whose parent exited first is lost when it exits.

    :param leaders: The ids of the programs' first processes, each the leader of its session.
    """
    table = _read_table()
    ticks = dict.fromkeys(leaders, 0)
    for pid, owner in _find_owners(table, leaders).items():
        ticks[owner] += table[pid].ticks
    return {leader: count / os.sysconf("SC_CLK_TCK") for leader, count in ticks.items()}


def find_owners(leaders: Collection[int]) -> dict[int, int]:
    """
    Return the leader to which each process belongs that one of these programs has started.

    :param leaders: As for ``read_cpu_seconds``.
    """
    return _find_owners(_read_table(), leaders)


def _find_owners(table: Mapping[int, _Entry], leaders: Collection[int]) -> dict[int, int]:
    owners = {pid: _find_owner(pid, table, leaders) for pid in table}
    return {pid: owner for pid, owner in owners.items() if owner is not None}


def _find_owner(pid: int, table: Mapping[int, _Entry], leaders: Collection[int]) -> int | None:
    """Return the leader to which a process belongs, by its session or by that of an ancestor."""
    # PostgreSQL's processes have sessions of their own.
    while (entry := table.get(pid)) and entry.session not in leaders:
        pid = entry.parent
    return entry.session if entry else None


def _read_table() -> dict[int, _Entry]:
    table = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name in brackets may contain spaces and brackets; the fields after it do not.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        # utime, stime, and the same of the children that it has waited for.
        table[int(folder.name)] = _Entry(int(fields[1]), int(fields[3]), sum(map(int, fields[11:15])))
    return table
