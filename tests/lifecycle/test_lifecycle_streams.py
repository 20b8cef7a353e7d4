"""What the flow does with an event stream, in lives whose stream says what the status does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskUncertainError
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle import follow_stream
from airflow_agent_tasks.lifecycle.execution import Execution, TaskTry
from airflow_agent_tasks.lifecycle.follow_stream import finish_stream
from airflow_agent_tasks.lifecycle.open_stream import OpenStream
from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.event_text import SentenceJoiner
from tests.service_samples import LIGHTCONE, SHINZO
from tests.simulated.script import Failure, Script
from tests.simulated.service import ACTIVE, SimulatedTask
from tests.simulated.stream import SimulatedStream
from tests.simulated.world import World
from tests.task_settings import build_settings

STREAM = {"stream": True, "poll_interval": 10.0}


class ScriptedStream(SimulatedStream):
    """A stream that sends these events, one list after the other, and then falls silent."""

    batches: list[Any]

    def wait(self, service: Any, now: float, seconds: float) -> tuple[list[Any] | None, float]:
        return (self.batches.pop(0), now) if self.batches else ([], now + seconds)


class StreamWorld(World):
    """A world whose first stream sends these events."""

    batches: list[Any]

    def _do(self, command: cmd.Command[Any]) -> Any:
        result = super()._do(command)
        if type(command).__name__ == "StreamTask" and self.stream:
            self.stream.__class__ = ScriptedStream
            self.stream.batches = self.batches  # type: ignore[attr-defined]
        return result


def live(batches: list[Any], **changes: Any) -> StreamWorld:
    settings = {**STREAM, **changes.pop("settings", {})}
    world = StreamWorld(Script(LIGHTCONE, settings, **changes))
    world.batches = batches
    world.live()
    return world


def read_log(world: World) -> list[str]:
    return [line.message % line.args for line in world.journal if isinstance(line, cmd.Log)]


def test_a_lost_stream_and_a_failed_start_never_start_a_second_agent() -> None:
    # The stream starts the agent and is cut before it names it; the start that follows is not even sent.
    script = Script(LIGHTCONE, STREAM, lost_answers=("start",), failures=(Failure("StartTask"),))
    world = World(script).live()
    assert world.state == "success"
    assert len(world.service.tasks) == 1


def test_an_uncertain_stream_is_followed_by_an_uncertain_start() -> None:
    script = Script(LIGHTCONE, STREAM, lost_answers=("start", "start"), retries=0)
    world = World(script).live()
    assert isinstance(world.error, AgentTaskUncertainError)
    assert not world.error.is_final


@pytest.mark.parametrize("budget", [{"steps": 3}, {"cost": 1.0}])
def test_a_budget_that_only_the_stream_passes_stops_the_agent(budget: dict[str, float]) -> None:
    event = {"type": "progress_update", "task_id": "tsk_1", "steps_completed": 5, "usage": {"cost": 2}}
    world = live([[event]], work=500.0, settings={"budget": budget}, retries=2)
    assert world.state == "failed"
    assert world.service.list_active(world.now) == []
    assert world.performed["StopTask"] == 1
    assert len(world.service.tasks) == 1


def test_usage_of_another_agent_task_stops_nothing() -> None:
    event = {"type": "progress_update", "task_id": "tsk_9", "status": "running", "usage": {"cost": 9}}
    world = live([[event]], settings={"budget": {"cost": 1.0}})
    assert world.state == "success"
    assert world.performed["StopTask"] == 0


def test_a_stop_that_fails_after_the_budget_is_finished_by_the_next_try() -> None:
    event = {"type": "progress_update", "task_id": "tsk_1", "usage": {"cost": 2}}
    world = live(
        [[event]],
        work=500.0,
        settings={"budget": {"cost": 1.0}},
        retries=3,
        failures=(Failure("StopTask"),),
    )
    assert world.state == "failed"
    assert world.service.list_active(world.now) == []
    assert len(world.service.tasks) == 1
    assert world.try_number == 2


def test_a_result_reaches_xcom_even_if_it_cannot_be_saved() -> None:
    end = {"type": "completion", "task_id": "tsk_1", "status": "completed", "exit_code": 0, "result": "done"}
    world = live([[end]], work=0.5, failures=(Failure("SaveSubmission", first=3, times=1),))
    assert world.result is not None
    assert world.result.result == "done"


def test_a_timeout_that_meets_a_completion_takes_the_result_from_the_stream() -> None:
    end = {"type": "completion", "task_id": "tsk_1", "status": "completed", "exit_code": 0, "result": "done"}
    events: list[Any] = [[], [end]]
    world = live(events, work=6.5, settings={"timeout": 6.0, "poll_interval": 4.0})
    assert world.result is not None
    assert world.result.result == "done"
    assert not any(task.locate(world.now)[1] in ACTIVE for task in world.service.tasks.values())


def test_repeated_completions_are_saved_once_and_checked_at_a_pace() -> None:
    end = {"type": "completion", "task_id": "tsk_1", "status": "completed", "exit_code": 0, "result": "early"}
    world = live([[end]] * 200, work=500.0, settings={"timeout": 100.0}, retries=0)
    saves = [line for line in world.journal if isinstance(line, cmd.SaveSubmission)]
    assert sum(one.submission.result is not None for one in saves) <= 3
    assert world.performed["GetTask"] < 200


def test_a_flood_of_lines_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_stream, "MAX_LINES", 5)
    event = {"type": "note", "task_id": "tsk_1", "message": "Hello"}
    world = live([[event] * 50])
    lines = [line for line in read_log(world) if "Hello" in line]
    assert len(lines) == 5
    assert "The event stream has written 5 lines; the log leaves the others out." in read_log(world)


def test_the_agent_is_stopped_before_the_transcript_is_kept() -> None:
    world = live([], work=500.0, settings={"timeout": 20.0}, retries=0)
    names = [type(line).__name__ for line in world.journal]
    assert names.index("StopTask") < names.index("EndStream")


def test_a_stream_is_over_before_the_task_is_parked() -> None:
    event = {"type": "progress_update", "task_id": "tsk_1", "status": "awaiting_input", "question": "Which?"}
    world = live([[], [event]], questions=("Which?",))
    names = [type(line).__name__ for line in world.journal]
    assert names.index("EndStream") < names.index("Park")
    assert world.state == "success"
    assert world.result is not None
    assert world.result.status is TaskState.COMPLETED


def test_a_stream_whose_key_is_refused_starts_nothing_else() -> None:
    world = World(Script(LIGHTCONE, STREAM, failures=(Failure("StreamTask", status=401),))).live()
    assert world.state == "failed"
    assert world.performed["StartTask"] == 0
    assert world.store is None


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_users_own_key_does_not_wait_for_a_stopped_agent(*, is_paused: bool, fails: bool) -> None:
    failures = (Failure("GetTask"),) if fails else ()
    world = World(Script(LIGHTCONE, STREAM, retries=0, failures=failures))
    fields = {**world.settings.start_fields, "idempotency_key": "mine"}
    world.settings = replace(world.settings, start_fields=fields, timeout=60.0)
    earlier = world.service.start(fields, world.now)
    if is_paused:
        world.service.stop(earlier.task_id, world.now)
    world.live()
    assert len(world.service.tasks) == 1
    assert (world.state == "failed") is is_paused
    if is_paused and not fails:
        assert "The idempotency_key belongs to" in str(world.error)


@pytest.mark.parametrize("kind", ["breaks", "falls silent", "ends"])
def test_the_rest_of_a_stream_may_be_missing(kind: str) -> None:
    if kind == "breaks":
        world = World(Script(LIGHTCONE, STREAM, work=0.5, failures=(Failure("NextEvents"),))).live()
    else:
        world = live([None] if kind == "ends" else [[]], work=0.5)
    assert world.state == "success"
    assert len(world.service.tasks) == 1


def test_a_completion_may_have_no_result() -> None:
    end = {"type": "completion", "task_id": "tsk_1", "status": "completed", "exit_code": 0}
    world = live([[end]], work=0.5)
    assert world.state == "success"
    assert world.result is not None
    assert world.result.result is None


def test_the_agents_words_are_logged_as_sentences_before_its_end() -> None:
    words = [{"type": "progress_update", "delta": part} for part in ("I look. ", "Then I b", "uy")]
    end = {"type": "completion", "task_id": "tsk_1", "status": "completed", "exit_code": 0}
    log = read_log(live([words, [end]], work=0.5))
    texts = [line for line in log if line.startswith(("Agent:", "Finished"))]
    assert texts[:2] == ["Agent: I look.", "Agent: Then I buy"]
    assert texts[2].startswith("Finished")


class Spender(SimulatedTask):
    """An agent task that spends 1 in 10 seconds, and says so."""

    def describe(self, service: Dialect, now: float, *, reused: bool = False) -> AgentTask:
        task = super().describe(service, now, reused=reused)
        return replace(task, usage={"cost": (now - self.created_at) / 10})


@pytest.mark.parametrize("service", [LIGHTCONE, SHINZO])
def test_a_trigger_stops_the_agent_at_its_budget_and_the_worker_says_so(service: Dialect) -> None:
    settings = {"deferrable": True, "poll_interval": 10.0, "budget": {"cost": 2.0}}
    world = World(Script(service, settings, work=500.0, retries=2))
    world.service.kind = Spender
    world.live()
    assert world.state == "failed"
    assert "passed its budget: cost " in str(world.error)
    assert "It was stopped (now " in str(world.error)
    assert world.performed["StopTask"] == 0
    assert world.service.list_active(world.now) == []
    assert len(world.service.tasks) == 1


class LateStop(SimulatedTask):
    """An agent task that completes in the moment in which it is to be stopped."""

    def locate(self, now: float) -> tuple[int, TaskState]:
        shown, state = super().locate(now)
        return shown, TaskState.COMPLETED if self.stopped else state


def test_an_agent_that_completes_while_its_budget_stops_it_delivers() -> None:
    event = {"type": "progress_update", "task_id": "tsk_1", "usage": {"cost": 2}}
    world = StreamWorld(Script(LIGHTCONE, {**STREAM, "budget": {"cost": 1.0}}, work=500.0))
    world.batches = [[event]]
    world.service.kind = LateStop
    world.live()
    assert world.state == "success"
    assert world.performed["StopTask"] == 1


def test_a_budget_that_the_end_passes_is_only_a_warning() -> None:
    end = {
        **{"type": "completion", "task_id": "tsk_1", "status": "completed", "exit_code": 0},
        "usage": {"cost": 2},
    }
    world = live([[end]], work=0.5, settings={"budget": {"cost": 1.0, "tokens": 5.0}})
    assert world.state == "success"
    log = read_log(world)
    assert "The agent task ended before its budget could stop it: cost 2 of 1" in log
    assert "The service did not report tokens, so the budget could not limit it." in log


def test_a_kill_ends_the_rest_of_a_stream() -> None:
    # The second wait is for what is left of the stream of an agent that has ended.
    script = Script(LIGHTCONE, {**STREAM, "poll_interval": 1.0}, work=0.5, stream="stalls")
    world = World(script)
    world.on_command = kill_when_ended
    world.live()
    assert world.state == "killed"


def kill_when_ended(world: World) -> None:
    """Kill the worker once it has seen the agent's end."""
    if world.xcoms.get("status") == "completed":
        world.is_killed = True


def test_an_event_before_anything_is_known_of_the_agent_pushes_nothing() -> None:
    execution = Execution(build_settings({}, stream=True), TaskTry(("d",), "id", 1, 0, 0.0, ""))
    execution.last_started = StartedTask("tsk_1", None, 1.0)
    execution.stream = OpenStream(SentenceJoiner())
    event = {"type": "progress_update", "task_id": "tsk_1", "current_step": "Reading"}
    answers = {"NextEvents": [[event], None], "ReadClock": 1.0}
    performed = []

    def perform(command: cmd.Command[Any]) -> Any:
        name = type(command).__name__
        performed.append(name)
        answer = answers.get(name)
        return answer.pop(0) if isinstance(answer, list) else answer

    cmd.perform_all(finish_stream(execution, LIGHTCONE), perform)
    assert "PushTask" not in performed
    assert execution.streamed.progress == Progress("Reading")


def test_the_file_of_the_transcript_is_an_artifact() -> None:
    world = World(Script(LIGHTCONE, {**STREAM, "artifacts_path": "files:"})).live()
    assert [entry["name"] for entry in world.xcoms["artifacts"]] == ["transcript.jsonl"]


def test_the_progress_in_a_stream_is_pushed_at_a_pace() -> None:
    events = [
        {"type": "progress_update", "task_id": "tsk_1", "current_step": "Reading", "steps_completed": number}
        for number in range(50)
    ]
    quiet, busy = live([[]]), live([[event] for event in events])
    assert busy.performed["PushTask"] - quiet.performed["PushTask"] < 10


def test_a_retry_after_a_failure_starts_anew_whatever_the_failed_agent_has_used() -> None:
    ends = (TaskState.FAILED, TaskState.COMPLETED)
    world = World(Script(LIGHTCONE, {"budget": {"cost": 0.1}}, work=0.5, ends=ends, retries=1))
    world.service.kind = Spender
    world.live()
    assert len(world.service.tasks) == 2
