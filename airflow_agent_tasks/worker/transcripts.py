"""Keeps the events of a stream: the last ones in XCom, all of them in object storage."""

from __future__ import annotations

import json
import tempfile
from typing import IO, Any

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.artifact import Artifact, name_folder
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.services.transcript import Transcript
from airflow_agent_tasks.worker.artifacts import ArtifactStore
from airflow_agent_tasks.worker.xcoms import XComs

FILE_NAME = "transcript.jsonl"
MEDIA_TYPE = "application/x-ndjson"
#: Bytes on the worker's disk above which further events are left out of the file.
MAX_FILE_BYTES = 256 * 1024 * 1024


class TranscriptKeeper:
    """
    The transcript of one stream.

    :param conn_id: The Airflow connection.
    :param xcoms: The XCom of the task instance.
    :param artifacts: The object storage of the task.
    :param keeps_all: True if the task has an ``artifacts_path``, to keep all events there.
    :param log: The task's log.
    """

    def __init__(
        self, conn_id: str, xcoms: XComs, artifacts: ArtifactStore, log: Log, *, keeps_all: bool
    ) -> None:
        self._conn_id = conn_id
        self._xcoms = xcoms
        self._artifacts = artifacts
        self._log = log
        self._keeps_all = keeps_all
        self._folder = ""
        self._last = Transcript()
        self._file: IO[bytes] | None = None
        self._is_full = False

    def begin(self, task_id: str) -> None:
        """Begin the transcript of an agent task."""
        self._folder, self._last = name_folder(self._conn_id, task_id), Transcript()
        self._file = None
        if self._keeps_all:
            try:
                # Object storage cannot append, and the events of hours do not fit into memory.
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by keep
            except OSError as error:  # the agent task runs already, so this must not fail
                self._log.warning("The transcript is not kept in full: %s", error)

    def add(self, event: dict[str, Any]) -> None:
        """Add an event, which has no files in it; never raises."""
        self._last.add(event)
        if self._file is None or self._is_full:
            return
        if self._file.tell() > MAX_FILE_BYTES:
            self._is_full = True
            self._log.warning("The file of the transcript has %s bytes and ends here.", self._file.tell())
            return
        try:
            self._file.write(json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        except OSError as error:  # the disk is full
            self._log.warning("The transcript is not kept in full: %s", error)
            self._file.close()
            self._file = None

    def keep(self) -> Artifact | None:
        """Push XCom ``transcript``, store the file and return it; never raises."""
        self._xcoms.push_transcript(self._last.to_json())
        if self._file is None:
            return None
        with self._file as file:
            self._file = None
            try:
                file.seek(0)
                return self._artifacts.copy(self._folder, FILE_NAME, MEDIA_TYPE, file)
            except (AgentTaskError, OSError) as error:
                self._log.warning("The transcript was not kept: %s", error)
                return None
