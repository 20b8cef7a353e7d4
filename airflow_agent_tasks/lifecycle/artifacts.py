"""
Keeps what the agent made: files go to object storage, and so does a result that is too large for XCom.

Base64 text never reaches XCom or the log. A file from an event that cannot be stored is only missing. A
result that cannot be stored fails the Airflow task, and stays with the service until a later try takes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskUndeliveredError
from airflow_agent_tasks.lifecycle.artifact import Artifact, name_folder
from airflow_agent_tasks.lifecycle.commands import (
    Flow,
    KeepFile,
    ListArtifacts,
    PushArtifacts,
    ReadClock,
    info,
    warn_on_failure,
    warning,
)
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.services.embedded_files import (
    MIN_FILE_TEXT,
    EmbeddedFile,
    LinkedFile,
    take_files,
)
from airflow_agent_tasks.text import shorten

#: Seconds between two pushes of a growing list.
PUSH_INTERVAL = 10.0
#: After this many failures in a row, storing is tried again only after a pause of so many seconds: storage
#: that hangs for a minute at each file must not hold up the agent's events.
MAX_FAILURES = 3
PAUSE = 60.0
#: The number of characters of a large result that XCom shows.
MAX_PREVIEW = 2_000
#: The number of files that are kept of one JSON value; the others stay in a result and are cut from an event.
MAX_FILES = 1_000
#: The number of files of one agent task's events that are kept.
MAX_FILES_OF_TASK = 10_000
#: The number of characters of an address in the list.
MAX_URL = 500

HOW_TO_SET = (
    "Set artifacts_path on the operator, [agent_tasks] artifacts_path in airflow.cfg, or the environment "
    "variable AIRFLOW__AGENT_TASKS__ARTIFACTS_PATH"
)


def keep_files(execution: Execution, value: Any, name: str = "") -> Flow[Any]:
    """
    Store the files in an event of the agent; return the event without them.

    A file that cannot be stored is logged, and listed with the reason.

    :param value: Any JSON value. It is not changed.
    :param name: What the value is, such as ``"screenshots"``; default unknown.
    """
    value = yield from _replace_files(execution, value, name, _keep_or_drop)
    yield from push_artifacts(execution, min_seconds=PUSH_INTERVAL)
    return value


def push_artifacts(execution: Execution, *, min_seconds: float = 0.0) -> Flow[None]:
    """
    Push XCom ``artifacts``, if anything was kept since the last push.

    :param min_seconds: Seconds that must have passed since then. Default 0.
    """
    artifacts = execution.artifacts
    if not artifacts.is_changed:
        return
    now = yield from ReadClock()
    if now - artifacts.pushed_at >= min_seconds:
        artifacts.is_changed, artifacts.pushed_at = False, now
        yield from PushArtifacts(artifacts.to_json())


def keep_result(execution: Execution, task: AgentTask) -> Flow[AgentTask]:
    """
    Store the files in a result, and the result itself if it is too large for XCom; return what replaces it.

    :raises AgentTaskUndeliveredError: if the result is to be delivered and cannot be stored; the next try
        takes it, even after a clear.
    """
    execution.is_keeping_result = _is_for_xcom(execution, task)
    if task.result is not None:
        try:
            result = yield from _keep_result(execution, task)
        except AgentTaskUndeliveredError:
            yield from warn_on_failure(execution.mark(is_undelivered=True))
            raise
        task = replace(task, result=result)
    if execution.task_try.try_number > 1 and execution.settings.artifacts_path:
        yield from _try_load(execution)  # a retry has lost the XCom of the earlier try
    yield from push_artifacts(execution)
    if execution.submission and execution.submission.is_undelivered:
        # From now on, a clear starts over again.
        yield from warn_on_failure(execution.mark(is_undelivered=False))
    execution.is_keeping_result = False
    execution.last_task = task
    return task


def _is_for_xcom(execution: Execution, task: AgentTask) -> bool:
    settings = execution.settings
    return (
        task.status is TaskState.COMPLETED
        and task.exit_code not in settings.skip_on_exit_code
        and settings.pushes_xcoms
    )


def _keep_result(execution: Execution, task: AgentTask) -> Flow[Any]:
    if not execution.is_keeping_result:  # nobody downstream gets it: only its files are worth keeping
        return (yield from _replace_files(execution, task.result, "result", _keep_or_drop))
    result = yield from _replace_files(execution, task.result, "result", _keep_or_fail)
    limit = execution.settings.max_xcom_bytes
    is_text = isinstance(result, str)
    text = result if is_text else json.dumps(result, ensure_ascii=False)
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return result
    name, media_type = ("result.txt", "text/plain") if is_text else ("result.json", "application/json")
    what = f"the result has {len(data):,} bytes, more than max_xcom_bytes ({limit:,})"
    stored = yield from _require_kept(execution, name, media_type, data, what)
    yield from info("Stored the result (%s bytes) in %s", len(data), stored.path)
    return {**stored.to_reference(), "preview": text[:MAX_PREVIEW]}


def _replace_files(
    execution: Execution, value: Any, name: str, keep: Callable[[Execution, Any, int], Flow[Any]]
) -> Flow[Any]:
    taking, replacement, count = take_files(value, name), None, 0
    while True:
        try:
            file = taking.send(replacement)
        except StopIteration as end:
            return end.value
        count += 1
        if isinstance(file, EmbeddedFile):
            replacement = yield from keep(execution, file, count)
        elif count <= MAX_FILES:
            yield from _add_link(execution, file)


def _keep_or_drop(execution: Execution, file: EmbeddedFile, count: int) -> Flow[Any]:
    """Store a file that may be lost, and return what replaces it."""
    reference = {"size": file.size, "type": file.media_type}
    if not execution.settings.artifacts_path:
        if not execution.has_dropped_files:
            yield from warning("The agent sent files, which are not kept. %s to keep them.", HOW_TO_SET)
        execution.has_dropped_files = True
        return reference
    artifacts, now = execution.artifacts, (yield from ReadClock())
    is_paused = artifacts.failures >= MAX_FAILURES and now - artifacts.failed_at < PAUSE
    if count > MAX_FILES or artifacts.last_number >= MAX_FILES_OF_TASK or is_paused:
        artifacts.leave_out()
        return reference
    name = file.name
    try:
        yield from _load(execution)
        name = artifacts.number(file.name)
        stored = yield from _keep(execution, name, file.media_type, file.read())
    except AgentTaskError as error:
        reason = shorten(str(error))
    else:
        artifacts.failures = 0
        return stored.to_reference()
    artifacts.failures, artifacts.failed_at = artifacts.failures + 1, now
    artifacts.add(Artifact(name, size=file.size, type=file.media_type, error=reason))
    yield from warning("%s was not kept: %s", name, reason)
    return {**reference, "error": reason}


def _keep_or_fail(execution: Execution, file: EmbeddedFile, count: int) -> Flow[Any]:
    """Store a file of a result, and return what replaces it; None to leave it in the result."""
    is_small = len(file.text) < MIN_FILE_TEXT
    if count > MAX_FILES or (is_small and not execution.settings.artifacts_path):
        return None
    # The same name in each try: a retry overwrites what an earlier one has stored.
    name = f"result-{count:04}-{file.name}"
    what = f"the result has a file in it ({file.media_type}, {file.size:,} bytes)"
    stored = yield from _require_kept(execution, name, file.media_type, file.read(), what)
    return stored.to_reference()


def _require_kept(execution: Execution, name: str, media_type: str, data: bytes, what: str) -> Flow[Artifact]:
    """Store a part of the result; raises AgentTaskUndeliveredError, which says what to do, if that fails."""
    raise_limit = ", or raise max_xcom_bytes" if name.startswith("result.") else ""
    then = "The result is not lost: the next try takes it, even after a clear."
    if not execution.settings.artifacts_path:
        raise AgentTaskUndeliveredError(
            f"{execution.name} completed, but {what}, and no artifacts_path says where to store it. "
            f"{HOW_TO_SET}{raise_limit}. {then}"
        )
    try:
        yield from _try_load(execution)
        return (yield from _keep(execution, name, media_type, data))
    except AgentTaskError as error:
        raise AgentTaskUndeliveredError(
            f"{execution.name} completed, but {what}, and could not be stored: {error} {then}"
        ) from None


def _keep(execution: Execution, name: str, media_type: str, data: bytes) -> Flow[Artifact]:
    folder = _find_folder(execution)
    artifact = yield from KeepFile(folder, name, media_type, data)
    execution.artifacts.add(artifact)
    return artifact


def _add_link(execution: Execution, link: LinkedFile) -> Flow[None]:
    yield from _try_load(execution)
    artifacts = execution.artifacts
    if len(link.url) > MAX_URL:
        artifacts.leave_out()
    else:
        artifacts.add(Artifact(artifacts.number(link.name), url=link.url))


def _find_folder(execution: Execution) -> str:
    return name_folder(execution.settings.conn_id, execution.started.agent_task_id)


# --- the list


def _load(execution: Execution) -> Flow[None]:
    """Add to the list what earlier executions have kept, once."""
    execution.artifacts.is_load_tried = True
    if not execution.artifacts.is_loaded:
        folder = _find_folder(execution)
        execution.artifacts.load((yield from ListArtifacts(folder)))


def _try_load(execution: Execution) -> Flow[None]:
    if not execution.artifacts.is_load_tried:
        yield from warn_on_failure(_load(execution))
