"""What the agent made is kept under names of its own, and a result that cannot be stored waits for a path."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskUndeliveredError
from airflow_agent_tasks.lifecycle import artifact, artifacts
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.artifact import Artifact, ArtifactList, name_folder
from airflow_agent_tasks.lifecycle.artifacts import keep_files, keep_result, push_artifacts
from airflow_agent_tasks.lifecycle.execution import Execution, TaskTry
from airflow_agent_tasks.lifecycle.submission_record import Submission
from tests.service_samples import LIGHTCONE, SHINZO
from tests.simulated.script import CLEAR_AFTER_THE_END, Interruption, Script
from tests.simulated.world import World
from tests.task_settings import build_settings

PNG = b"\x89PNG\r\n\x1a\n" + hashlib.shake_128(b"1").digest(2_000)
SHOT = base64.b64encode(PNG).decode()
EVENT = {"type": "screenshots", "screenshots": [{"base64": SHOT, "media_type": "image/png"}]}
PATH = {"artifacts_path": "s3://bucket"}


class Desk:
    """Performs the commands of one execution, with an object storage of its own."""

    def __init__(self, *, try_number: int = 1, **settings: Any) -> None:
        task_try = TaskTry(("dag", "run", "task", -1, 1, "id"), "id", try_number, 3, 0.0, "")
        self.execution = Execution(build_settings({}, **settings), task_try)
        self.execution.last_started = StartedTask("tsk_1", None, 1.0)
        self.store: Submission | None = Submission("key", 1, 3, "tsk_1", submitted_at=1.0)
        self.files: dict[str, bytes] = {}
        self.xcom: list[Any] = []
        self.pushes = 0
        self.warnings: list[str] = []
        self.now = 100.0
        self.failures: dict[str, int] = {}
        self.tried = 0

    def run(self, flow: cmd.Flow[Any]) -> Any:
        return cmd.perform_all(flow, self._perform)

    def keep(self, event: Any = EVENT) -> Any:
        return self.run(keep_files(self.execution, event))

    def deliver(self, result: Any, status: TaskState = TaskState.COMPLETED, **fields: Any) -> Any:
        task = AgentTask("shinzo", "tsk_1", status, result=result, **fields)
        return self.run(keep_result(self.execution, task)).result

    def _perform(self, command: cmd.Command[Any]) -> Any:
        name = type(command).__name__
        self.tried += name == "KeepFile"
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            raise AgentTaskError(f"{name} fails")
        match command:
            case cmd.ReadClock():
                return self.now
            case cmd.LoadSubmission():
                return self.store
            case cmd.SaveSubmission(submission):
                self.store = submission
            case cmd.KeepFile(folder, file_name, media_type, data):
                self.files[f"{folder}/{file_name}"] = data
                return Artifact(file_name, f"s3:{folder}/{file_name}", len(data), media_type)
            case cmd.ListArtifacts(folder):
                return [Artifact(path.rpartition("/")[2], f"s3:{path}") for path in self.files]
            case cmd.PushArtifacts(entries):
                self.xcom, self.pushes = entries, self.pushes + 1
            case cmd.Log("warning", message, args):
                self.warnings.append(message % args)
        return None


def test_the_files_of_an_event_are_kept_and_listed() -> None:
    desk = Desk(**PATH)
    event = desk.keep()
    path = "s3:agents/tsk_1/0001-screenshot.png"
    reference = {"path": path, "size": len(PNG), "type": "image/png"}
    assert event["screenshots"] == [{"base64": reference, "media_type": "image/png"}]
    assert desk.files == {"agents/tsk_1/0001-screenshot.png": PNG}
    assert desk.xcom == [{"name": "0001-screenshot.png", **reference}]


def test_the_address_of_a_screenshot_is_listed_once_for_each_event() -> None:
    desk = Desk()
    event = {"screenshots": ["https://x/1.png"]}
    assert desk.keep(event) == event
    assert desk.xcom == [{"name": "0001-screenshot", "url": "https://x/1.png"}]
    assert desk.files == {}


def test_without_a_path_the_files_of_events_are_dropped_with_one_warning() -> None:
    desk = Desk()
    for _ in range(3):
        assert desk.keep()["screenshots"][0]["base64"] == {"size": len(PNG), "type": "image/png"}
    assert (len(desk.warnings), desk.files, desk.xcom) == (1, {}, [])
    assert "AIRFLOW__AGENT_TASKS__ARTIFACTS_PATH" in desk.warnings[0]


def test_a_later_execution_adds_to_the_list_and_takes_new_names() -> None:
    first = Desk(**PATH)
    first.keep()
    first.keep()
    later = Desk(**PATH, try_number=2)
    later.files = dict(first.files)
    later.keep()
    assert sorted(later.files) == [f"agents/tsk_1/000{number}-screenshot.png" for number in (1, 2, 3)]
    assert [entry["name"][:4] for entry in later.xcom] == ["0001", "0002", "0003"]


def test_a_retry_lists_what_the_earlier_try_kept_even_if_it_keeps_nothing() -> None:
    desk = Desk(**PATH, try_number=2)
    desk.files = {"agents/tsk_1/0001-screenshot.png": PNG}
    assert desk.deliver("done") == "done"
    assert [entry["name"] for entry in desk.xcom] == ["0001-screenshot.png"]


def test_the_list_is_pushed_at_a_pace_and_at_the_end() -> None:
    desk = Desk(**PATH)
    for _ in range(100):
        desk.keep()
        desk.now += 0.5
    assert desk.pushes == pytest.approx(100 * 0.5 / artifacts.PUSH_INTERVAL, abs=1)
    desk.run(push_artifacts(desk.execution))
    assert len(desk.xcom) == 100
    pushes = desk.pushes
    desk.run(push_artifacts(desk.execution))
    assert desk.pushes == pushes


@pytest.mark.parametrize("command", ["KeepFile", "ListArtifacts"])
def test_a_file_of_an_event_that_cannot_be_stored_is_listed_with_the_reason(command: str) -> None:
    desk = Desk(**PATH)
    desk.failures[command] = 1
    failed, kept = desk.keep(), desk.keep()
    assert failed["screenshots"][0]["base64"]["error"] == f"{command} fails"
    assert kept["screenshots"][0]["base64"]["path"] in [f"s3:{path}" for path in desk.files]
    desk.run(push_artifacts(desk.execution))
    assert [entry.get("error") for entry in desk.xcom if "path" not in entry] == [f"{command} fails"]
    assert len(desk.xcom) == 2


def test_storage_that_keeps_failing_is_tried_again_only_after_a_pause() -> None:
    desk = Desk(**PATH)
    desk.failures["KeepFile"] = 99
    for _ in range(50):
        desk.keep()
    assert desk.tried == artifacts.MAX_FAILURES
    desk.failures.clear()
    desk.now += artifacts.PAUSE
    assert "path" in desk.keep()["screenshots"][0]["base64"]


def test_a_hostile_event_keeps_a_bounded_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_FILES", 3)
    monkeypatch.setattr(artifact, "MAX_ENTRIES", 2)
    desk = Desk(**PATH)
    event = desk.keep([SHOT] * 9 + ["https://x/"])
    assert len(desk.files) == 3
    assert SHOT not in json.dumps(event)
    # The list has two; one file is in the folder only, and the rest of the event was not kept.
    assert [entry.get("left_out") for entry in desk.xcom] == [None, None, 7]


def test_the_folder_of_an_agent_task_is_safe_and_its_own() -> None:
    ids = ["../x", "x", "a/b", "a_b", "a\\b", "é" * 300, "é" * 301, ".", "A.b-C_9"]
    folders = [name_folder("agents", one).removeprefix("agents/") for one in ids]
    assert len(set(folders)) == len(ids)
    assert all(not set(folder) & {"/", "\\"} and folder.strip(".") for folder in folders)
    assert (folders[1], folders[-1]) == ("x", "A.b-C_9")
    assert max(len(folder.encode()) for folder in folders) < 200


# --- results


def test_a_small_result_stays_as_it_is_and_asks_nothing_of_the_store() -> None:
    desk = Desk(**PATH)
    assert desk.deliver({"a": 1}) == {"a": 1}
    assert (desk.files, desk.pushes, desk.tried) == ({}, 0, 0)


@pytest.mark.parametrize(
    ("result", "name", "kind"),
    [("é" * 99, "result.txt", "text/plain"), ({"é": "é" * 99}, "result.json", "application/json")],
)
def test_a_large_result_is_stored_and_shows_its_first_part(result: Any, name: str, kind: str) -> None:
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    size = len(text.encode())
    assert Desk(max_xcom_bytes=size).deliver(result) == result
    desk = Desk(**PATH, max_xcom_bytes=size - 1)
    stored = desk.deliver(result)
    assert stored == {"path": f"s3:agents/tsk_1/{name}", "size": size, "type": kind, "preview": text[:2_000]}
    assert desk.files == {f"agents/tsk_1/{name}": text.encode()}
    assert [entry["name"] for entry in desk.xcom] == [name]
    assert desk.execution.last_task
    assert desk.execution.last_task.result == stored


def test_the_files_of_a_result_get_the_same_names_in_each_try() -> None:
    desk = Desk()
    result = {"chart": SHOT, "text": "fine"}
    for try_number in (1, 2):
        again = Desk(**PATH, try_number=try_number)
        again.files = desk.files
        assert again.deliver(result)["chart"]["path"] == "s3:agents/tsk_1/result-0001-chart.png"
    assert list(desk.files) == ["agents/tsk_1/result-0001-chart.png"]


@pytest.mark.parametrize(
    ("result", "settings", "said"),
    [
        (
            "x" * 100,
            {"max_xcom_bytes": 99},
            "100 bytes, more than max_xcom_bytes (99), and no artifacts_path",
        ),
        ({"chart": SHOT}, {}, "has a file in it (image/png, 2,008 bytes), and no artifacts_path"),
    ],
)
def test_without_a_path_such_a_result_fails_and_the_record_says_so(
    result: Any, settings: dict[str, Any], said: str
) -> None:
    desk = Desk(**settings)
    with pytest.raises(AgentTaskUndeliveredError) as failure:
        desk.deliver(result)
    assert said in str(failure.value)
    for way in ("artifacts_path on the operator", "[agent_tasks] artifacts_path", "AIRFLOW__AGENT_TASKS__"):
        assert way in str(failure.value)
    assert not failure.value.is_final
    assert desk.store
    assert desk.store.is_undelivered
    assert Submission.from_json(json.loads(json.dumps(desk.store.to_json()))) == desk.store


def test_a_small_file_without_a_path_stays_in_the_result() -> None:
    small = base64.b64encode(PNG[:90]).decode()
    assert Desk().deliver({"icon": small}) == {"icon": small}


@pytest.mark.parametrize("result", ["x" * 100, {"chart": SHOT}])
def test_storage_that_fails_fails_the_task_and_the_next_try_takes_the_result(result: Any) -> None:
    desk = Desk(**PATH, max_xcom_bytes=99)
    desk.failures["KeepFile"] = 1
    with pytest.raises(AgentTaskUndeliveredError, match="could not be stored: KeepFile fails"):
        desk.deliver(result)
    assert desk.store
    assert desk.store.is_undelivered
    assert desk.deliver(result) != result
    # From now on a clear starts over.
    assert not desk.store.is_undelivered


def test_a_result_is_delivered_even_if_earlier_files_cannot_be_listed() -> None:
    desk = Desk(**PATH, max_xcom_bytes=9)
    desk.failures["ListArtifacts"] = 9
    assert desk.deliver("x" * 10)["size"] == 10
    assert len(desk.warnings) == 1


@pytest.mark.parametrize(
    ("status", "settings", "fields"),
    [
        (TaskState.FAILED, {}, {}),
        (TaskState.CANCELLED, {}, {}),
        (TaskState.COMPLETED, {"skip_on_exit_code": frozenset({3})}, {"exit_code": 3}),
        (TaskState.COMPLETED, {"pushes_xcoms": False}, {}),
    ],
)
def test_a_result_that_nobody_gets_fails_nothing(
    status: TaskState, settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    result = {"chart": SHOT, "text": "x" * 99}
    bare = Desk(max_xcom_bytes=9, **settings)
    assert bare.deliver(result, status, **fields) == {
        "chart": {"size": len(PNG), "type": "image/png"},
        "text": "x" * 99,
    }
    kept = Desk(max_xcom_bytes=9, **PATH, **settings)
    assert kept.deliver(result, status, **fields)["chart"]["path"] == "s3:agents/tsk_1/0001-chart.png"


def test_the_entries_are_bounded_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "MAX_ENTRIES", 5)
    listed = ArtifactList()
    for _ in range(7):
        listed.add(Artifact(listed.number("a.png"), "p"))
    entries = listed.to_json()
    assert [entry.get("name") for entry in entries[:2]] == ["0001-a.png", "0002-a.png"]
    assert entries[5:] == [{"left_out": 2}]


# --- whole lives


def find_command(script: Script, kind: type[cmd.Command[Any]]) -> int:
    """Return the number of the first command of a kind in the life."""
    commands = [one for one in World(script).live().journal if isinstance(one, cmd.Command)]
    counted = [one for one in commands if not isinstance(one, cmd.Log)]
    return next(number for number, one in enumerate(counted, 1) if isinstance(one, kind))


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
@pytest.mark.parametrize("service", [LIGHTCONE, SHINZO], ids=lambda service: service.service)
@pytest.mark.parametrize("retries", [0, 2])
def test_a_clear_after_this_failure_takes_the_result_and_a_later_one_starts_over(
    service: Any, deferrable: bool, retries: int
) -> None:
    settings = {"max_xcom_bytes": 8, "deferrable": deferrable}
    world = World(Script(service, settings, retries=retries), (CLEAR_AFTER_THE_END,) * 4)

    def note(now: World) -> None:
        # The first two clears find no path yet, the third finds one.
        clears = now.kinds.count("clear")
        path = "files:" if clears >= 3 else None
        now.execution.settings = now.settings = replace(now.settings, artifacts_path=path)

    world.on_command = note
    world.live()
    assert world.state == "success"
    # One agent task up to the third clear; the fourth came after the success.
    assert world.delivered == ["tsk_1", "tsk_2"]


@pytest.mark.parametrize("is_after", [False, True])
def test_storage_that_is_too_slow_for_the_last_try_loses_no_result(is_after: bool) -> None:
    script = Script(SHINZO, {"max_xcom_bytes": 8, "artifacts_path": "files:"}, retries=0)
    slow = Interruption("timeout", find_command(script, cmd.KeepFile), is_after=is_after)
    world = World(script, (slow, CLEAR_AFTER_THE_END)).live()
    assert (world.state, world.delivered, list(world.service.tasks)) == ("success", ["tsk_1"], ["tsk_1"])


def test_a_long_address_is_only_counted() -> None:
    desk = Desk(**PATH)
    desk.keep({"screenshots": ["https://x/" + "a" * 600]})
    assert desk.xcom == [{"left_out": 1}]


def test_an_event_lists_a_bounded_number_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_FILES", 2)
    desk = Desk(**PATH)
    desk.keep({"screenshots": [f"https://x/{number}.png" for number in range(5)]})
    assert len(desk.xcom) == 2
