"""An artifact: a file that an agent made, as XCom ``artifacts`` lists it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from airflow_agent_tasks.services.embedded_files import make_safe_name

ARTIFACTS_KEY = "artifacts"
#: The number of entries in the list; the other files are only in the folder.
MAX_ENTRIES = 1_000


class Artifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One file.

    :param name: Its name in the folder of the agent task, and in the list.
    :param path: Where it is stored; None if it is not.
    :param size: The number of bytes.
    :param type: The media type.
    :param url: The address that the agent gave instead of a file. It is untrusted.
    :param error: Why it could not be stored.
    """

    name: str
    path: str | None = None
    size: int | None = None
    type: str | None = None
    url: str | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that have a value as plain JSON."""
        return dict(msgspec.to_builtins(self))

    def to_reference(self) -> dict[str, Any]:
        """Return what stands for the file in the agent's JSON."""
        return {"path": self.path, "size": self.size, "type": self.type}


class ArtifactList:
    """The artifacts of one agent task, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Artifact] = {}
        self._left_out = 0
        #: The last number that was given.
        self.last_number = 0
        #: True once the list has what earlier executions kept; until then, a new number may be taken.
        self.is_loaded = False
        #: True if it was tried to load them.
        self.is_load_tried = False
        #: How many files in a row could not be stored, and when the last one, in seconds since 1970.
        self.failures = 0
        self.failed_at = 0.0
        self.pushed_at = 0.0
        self.is_changed = False

    def load(self, earlier: Iterable[Artifact]) -> None:
        """Add what earlier executions kept."""
        found = {**{artifact.name: artifact for artifact in earlier}, **self._by_name}
        self.last_number = max(map(_read_number, found), default=0)
        self._by_name = {}
        for name in sorted(found):
            self.add(found[name])
        self.is_loaded = self.is_changed = True

    def number(self, name: str) -> str:
        """Return a name that no other artifact of the agent task has: ``0001-screenshot.png``."""
        self.last_number += 1
        return f"{self.last_number:04}-{name}"

    def add(self, artifact: Artifact) -> None:
        """Add an artifact, or replace the one of the same name; only count it if the list is full."""
        if artifact.name in self._by_name or len(self._by_name) < MAX_ENTRIES:
            self._by_name[artifact.name] = artifact
            self.is_changed = True
        else:
            self.leave_out()

    def leave_out(self) -> None:
        """Count an artifact that the list does not show."""
        self._left_out += 1
        self.is_changed = True

    def to_json(self) -> list[dict[str, Any]]:
        """Return the entries for XCom, and last how many are left out, if there are any."""
        entries = [self._by_name[name].to_json() for name in sorted(self._by_name)]
        return [*entries, {"left_out": self._left_out}] if self._left_out else entries


def _read_number(name: str) -> int:
    digits = name[:9].partition("-")[0]
    return int(digits) if digits.isdecimal() and digits.isascii() else 0


def name_folder(conn_id: str, agent_task_id: str) -> str:
    """
    Return the folder of an agent task, below that of its connection: two services may use the same ids.

    Of an id that a path cannot hold, it has what a path may hold, and a fingerprint.
    """
    return f"{_name_part(conn_id)}/{_name_part(agent_task_id)}"


def _name_part(name: str) -> str:
    safe = make_safe_name(name)
    if safe == name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}"
