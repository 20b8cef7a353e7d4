"""Stores what the agent made in object storage."""

from __future__ import annotations

import io
import shutil
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import msgspec

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.artifact import Artifact
from airflow_agent_tasks.lifecycle.commands import Command, KeepFile, ListArtifacts
from airflow_agent_tasks.services.embedded_files import find_media_type
from airflow_agent_tasks.text import shorten
from airflow_agent_tasks.worker.xcoms import XComs

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


class ArtifactStore:
    """
    The files of an agent task below ``artifacts_path``.

    :param artifacts_path: The rendered argument; None if the task has no such path.
    :param xcoms: The XCom of the task instance.
    """

    def __init__(self, artifacts_path: str | None, xcoms: XComs) -> None:
        self._artifacts_path = artifacts_path
        self._xcoms = xcoms

    def perform(self, command: Command[Any]) -> Any:
        """
        Perform one command, and return its result.

        :raises AgentTaskError: if the object storage fails, in whatever way.
        """
        try:
            match command:
                case KeepFile(folder, name, media_type, data):
                    return self._keep(folder, name, media_type, io.BytesIO(data))
                case ListArtifacts(folder):
                    return [*self._list_in_xcom(), *self._list_in_folder(folder)]
        except Exception as error:  # each object storage has its own, and so have its credentials
            raise AgentTaskError(_explain(self._artifacts_path, error)) from None
        raise TypeError(f"{type(command).__name__} is not a command for object storage")

    def copy(self, folder: str, name: str, media_type: str, source: IO[bytes]) -> Artifact:
        """
        Store a local file.

        :raises AgentTaskError: if the object storage fails, in whatever way.
        """
        try:
            return self._keep(folder, name, media_type, source)
        except Exception as error:  # as in perform
            raise AgentTaskError(_explain(self._artifacts_path, error)) from None

    def _keep(self, folder: str, name: str, media_type: str, source: IO[bytes]) -> Artifact:
        path = self._find_folder(folder) / name
        try:
            _write(path, source)
        except FileNotFoundError:
            # Only a file system needs folders; some object storages would make a bucket of that name.
            if path.protocol not in ("", "file", "local"):
                raise
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, source)
        return Artifact(name, path=str(path), size=source.tell(), type=media_type)

    def _list_in_folder(self, folder: str) -> list[Artifact]:
        if not self._artifacts_path:
            return []
        path = self._find_folder(folder)
        try:
            found = path.fs.ls(path.path, detail=True)
        except FileNotFoundError:
            return []
        names = {str(entry["name"]).rstrip("/").rpartition("/")[2]: entry for entry in found}
        return [
            Artifact(name, str(path / name), entry.get("size"), find_media_type(name))
            for name, entry in names.items()
            if entry.get("type") == "file"
        ]

    def _list_in_xcom(self) -> list[Artifact]:
        artifacts = []
        for entry in self._xcoms.pull_artifacts() or ():
            with suppress(msgspec.ValidationError):  # the count of those left out
                artifacts.append(msgspec.convert(entry, Artifact))
        return artifacts

    def _find_folder(self, folder: str) -> ObjectStoragePath:
        # Imported here: it takes a second, and most agent tasks store nothing.
        from airflow.sdk import ObjectStoragePath

        return ObjectStoragePath(self._artifacts_path or "") / folder


def _write(path: ObjectStoragePath, source: IO[bytes]) -> None:
    source.seek(0)
    try:
        with path.open("wb") as file:  # type: ignore[no-untyped-call]
            shutil.copyfileobj(source, file)
    except FileNotFoundError:
        raise
    except Exception:
        with suppress(Exception):
            path.unlink()  # half a file would look like a whole one
        raise


def _explain(artifacts_path: str | None, error: Exception) -> str:
    # Imported here: as above.
    from airflow.providers.common.compat.sdk import redact

    return shorten(f"Object storage at {artifacts_path} failed: {redact(repr(error))}", 500)
