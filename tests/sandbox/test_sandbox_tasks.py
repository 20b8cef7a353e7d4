"""The simulated task as arithmetic: moments go in, states come out, no clock runs."""

from __future__ import annotations

import pytest

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.sandbox.script import Script
from airflow_agent_tasks.sandbox.tasks import SimulatedTask

START = 1_000.0


def task_of(script: dict | None = None, **fields) -> SimulatedTask:
    script = {"steps": 4, "step_seconds": 1.0, **(script or {})}
    return SimulatedTask(
        service="lightcone", script=Script.model_validate(script), request={}, created_at=START, **fields
    )


def at(task: SimulatedTask, seconds: float) -> SimulatedTask:
    task.advance(START + seconds)
    return task


def test_it_runs_through_its_steps_and_completes():
    task = task_of()
    assert (task.status, task.steps_completed, task.exit_code) == ("running", 0, None)
    assert (at(task, 0.99).steps_completed, at(task, 1).steps_completed) == (0, 1)
    assert (at(task, 3.5).steps_completed, task.status, task.current_step) == (3, "running", "Step 4 of 4")
    assert (at(task, 4).status, task.exit_code, task.steps_completed) == ("completed", 0, 4)
    assert (task.started_at, task.ended_at) == (START, START + 4)


def test_its_steps_have_the_titles_of_the_script():
    task = task_of({"titles": ["Searching", "Comparing"]})
    titles = [at(task, seconds).current_step for seconds in (0, 1, 2, 3)]
    assert titles == ["Searching", "Comparing", "Step 3 of 4", "Step 4 of 4"]
    task = task_of({"titles": ["Searching"], "steps": 1})
    assert at(task, 1).current_step == "Searching"


def test_the_end_is_dated_to_the_moment_it_came_however_late_it_is_seen():
    task = at(task_of({"queued_seconds": 2}), 500)
    assert (task.started_at, task.ended_at) == (START + 2, START + 6)


def test_it_is_queued_before_it_starts():
    task = task_of({"queued_seconds": 2})
    assert (at(task, 1.5).status, task.steps_completed, task.started_at) == ("queued", 0, None)
    assert at(task, 2).status == "running"


def test_a_step_is_counted_in_spite_of_rounding():
    task = task_of({"steps": 100, "step_seconds": 0.1})
    assert [at(task, n * 0.1 + 1e-7).steps_completed for n in range(100)] == list(range(100))


def test_questions_are_spread_over_the_steps_and_stop_the_clock_until_they_are_answered():
    task = task_of({"ask": ["first?"]})
    assert (at(task, 1.9).status, task.question) == ("running", None)
    assert (at(task, 50).status, task.question, task.steps_completed) == ("awaiting_input", "first?", 2)
    assert task.next_change_at is None
    task.add_message("yes", START + 60)
    assert (task.status, task.question) == ("running", None)
    assert (at(task, 61.9).status, at(task, 62).status) == ("running", "completed")


def test_more_questions_than_steps_are_all_asked_one_after_the_other():
    task = task_of({"steps": 2, "ask": ["a", "b", "c", "d"]})
    asked = []
    for now in range(1, 10):
        if at(task, now * 10).question:
            asked.append(task.question)
            task.add_message("go on", START + now * 10)
    assert (asked, task.status) == (["a", "b", "c", "d"], "completed")


def test_questions_are_asked_also_when_steps_take_no_time():
    task = task_of({"step_seconds": 0, "ask": ["a", "b"]})
    assert task.question == "a"
    task.add_message("1", START)
    assert task.question == "b"
    task.add_message("2", START)
    assert (task.status, task.steps_completed) == ("completed", 4)


def test_a_message_to_a_running_task_is_only_recorded():
    task = task_of({"ask": ["a"]})
    task.add_message("early", START + 1)
    assert at(task, 10).question == "a"
    task.add_message("answer", START + 11)
    assert [message["message"] for message in task.messages] == ["early", "answer"]
    assert [message["time"] for message in task.messages] == [START + 1, START + 11]


def test_a_pause_stops_the_clock():
    task = task_of()
    task.pause(START + 1.5)
    assert (at(task, 100).status, task.steps_completed, task.next_change_at) == ("paused", 1, None)
    task.resume(START + 100)
    assert (at(task, 102.4).status, at(task, 102.5).status) == ("running", "completed")
    assert task.ended_at == START + 102.5


def test_pausing_twice_and_resuming_twice_changes_nothing():
    task = task_of()
    for moment in (1, 2):
        task.pause(START + moment)
    for moment in (3, 3.5):
        task.resume(START + moment)
    assert (at(task, 5.9).status, at(task, 6).status) == ("running", "completed")


def test_a_queued_task_can_be_paused_in_the_queue():
    task = task_of({"queued_seconds": 1})
    task.pause(START + 0.5)
    task.resume(START + 10)
    assert (at(task, 10.4).status, at(task, 10.5).status) == ("queued", "running")


def test_a_question_stays_open_over_a_pause_and_can_be_answered_in_it():
    task = at(task_of({"ask": ["a"]}), 2)
    task.pause(START + 3)
    assert (task.status, task.question) == ("paused", None)
    task.resume(START + 4)
    assert task.question == "a"
    task.pause(START + 5)
    task.add_message("yes", START + 6)
    task.resume(START + 7)
    assert (task.status, at(task, 9).status) == ("running", "completed")


def test_cancelling_ends_it_at_once():
    task = task_of()
    task.cancel(START + 1.5)
    assert (task.status, task.exit_code, task.ended_at, task.steps_completed) == (
        "cancelled",
        1,
        START + 1.5,
        1,
    )
    assert task.result is None


def test_nothing_changes_an_ended_task():
    task = at(task_of(), 4)
    task.cancel(START + 5)
    task.pause(START + 6)
    assert (task.status, task.ended_at) == ("completed", START + 4)


@pytest.mark.parametrize("word", [TaskState.CANCELLED, TaskState.FAILED])
def test_the_deadline_ends_it_also_when_paused_or_asking(word):
    limits = {"deadline": START + 3, "status_at_deadline": word}
    running, paused, asking = task_of(**limits), task_of(**limits), task_of({"ask": ["a"]}, **limits)
    paused.pause(START + 1)
    for task in (running, paused, asking):
        assert not at(task, 2.9).has_ended
        assert (at(task, 100).status, task.exit_code, task.ended_at) == (word.value, 1, START + 3)


def test_a_task_that_ends_exactly_at_its_deadline_completes():
    assert at(task_of(deadline=START + 4), 9).status == "completed"


def test_too_few_allowed_steps_make_it_fail_when_they_are_done():
    task = task_of({"ask": ["never asked"]}, max_steps=2)
    assert at(task, 1.9).status == "running"
    assert (at(task, 2).status, task.exit_code, task.steps_completed, task.result) == ("failed", 1, 2, None)


def test_as_many_allowed_steps_as_it_needs_let_it_complete():
    assert at(task_of(max_steps=4), 4).status == "completed"


def test_the_next_change_is_known_beforehand():
    task = task_of({"queued_seconds": 2, "ask": ["a"]}, deadline=START + 10)
    changes = [task.next_change_at]
    for _ in range(3):
        task.advance(changes[-1])
        changes.append(task.next_change_at)
    assert [change - START for change in changes] == [2, 3, 4, 10]
    assert task.question == "a"


def test_asking_twice_for_the_same_or_an_earlier_moment_changes_nothing():
    task = at(task_of(), 2.5)
    assert (at(task, 2.5).steps_completed, at(task, 1).steps_completed, at(task, 2.75).steps_completed) == (
        2,
        2,
        2,
    )
    assert at(task, 3).steps_completed == 3


def test_a_task_of_no_length_has_ended_when_it_is_created():
    assert task_of({"step_seconds": 0}).status == "completed"


def test_ids_differ_and_look_like_the_services():
    ids = {task_of().task_id for _ in range(100)}
    assert len(ids) == 100
    assert all(one.startswith("tsk_") for one in ids)
