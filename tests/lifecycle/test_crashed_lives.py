"""
Every life tried: the worker is lost, the task cleared or killed, before and after each command of each life.

For each it holds: at most one agent task is active at a time, none is left active that nothing waits for,
each reply is heard once, and no result is lost; by policy where a service gives no way to know whether a
start arrived. A life that fails is printed as its list of commands.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import airflow_agent_tasks
from airflow_agent_tasks.errors import AgentTaskUncertainError
from tests.simulated.form import answer_to
from tests.simulated.lives import COMPLETED, LIVES
from tests.simulated.script import CLEAR_AFTER_THE_END, Interruption, Script
from tests.simulated.world import World, describe

KINDS = ("crash", "timeout", "clear", "kill")


def count_commands(script: Script, *interruptions: Interruption) -> int:
    """Return how many commands a life takes after its last interruption."""
    return World(script, interruptions).live().since_last


def list_singles(script: Script) -> Iterator[tuple[Interruption, ...]]:
    for number in range(1, count_commands(script) + 1):
        for kind, is_after in itertools.product(KINDS, (False, True)):
            yield (Interruption(kind, number, is_after),)
    yield (CLEAR_AFTER_THE_END,)


def live(world: World) -> None:
    """Live a life to its end, and check what holds for all."""
    try:
        world.live()
        check(world)
    except AssertionError as error:
        lines = "\n".join(map(describe, world.journal))
        raise AssertionError(f"{error}\n{world.script}\n{lines}") from None


def check(world: World) -> None:
    script = world.script
    assert not world.service.doubled, f"started while another was active: {world.service.doubled}"
    for task in world.service.tasks.values():
        replies = [(number, text) for _, number, text in task.heard]
        numbers = [number for number, _ in replies]
        assert len(set(numbers)) == len(numbers), f"{task.task_id} heard a reply twice: {replies}"
        expected = script.settings.get("input_default")
        for number, text in replies:
            assert text == (expected or answer_to(script.questions[number])), f"a wrong reply: {replies}"
    assert len(set(world.desk.answered)) == len(world.desk.answered), f"asked twice: {world.desk.answered}"
    check_nothing_is_left(world)
    check_end(world)
    if world.settings.deferrable and not world.kinds:
        check_costs(world)


def check_costs(world: World) -> None:
    """A service that calls is asked seldom, and what it calls for is seen at once."""
    script, checks = world.script, world.service.checks
    assert checks <= script.most_checks, f"{checks} status checks"
    if world.result:
        task = world.service.tasks[world.result.task_id]
        delay = world.now - (task.list_beginnings()[-1] + task.work)
        assert delay <= script.most_delay, f"the end is seen after {delay:.1f} s"


def check_nothing_is_left(world: World) -> None:
    settings = world.settings
    is_left = (
        not settings.wait_for_completion
        or (settings.on_awaiting_input == "return" and world.state == "success")
        or (settings.on_timeout == "leave" and world.state == "failed")
        or (settings.on_kill_policy == "leave" and world.state == "killed")
    )
    active = {task.task_id for task in world.service.list_active(world.now)}
    # Of a start that was never recorded only the service knows. With a key, the next try finds it; without
    # one, or where no try is left, the log says what to search for.
    unknown = active - world.service.recorded
    if not world.service.has_keys or world.state in ("killed", "failed"):
        active -= unknown
    assert is_left or not active, f"left active: {active}"


def check_end(world: World) -> None:
    script, kinds = world.script, world.kinds
    check_number_of_starts(world)
    if world.state == "killed":
        assert "kill" in kinds
        return
    # Each crash and each time-out takes one of the tries.
    is_cut_short = len(kinds) - kinds.count("clear") > 0 and world.try_number > world.max_tries
    is_uncertain = "clear" in kinds or isinstance(world.error, AgentTaskUncertainError)
    is_unknowable = is_uncertain and not world.service.has_keys
    if not (is_cut_short or is_unknowable):
        assert world.state in (script.end, script.other_end), (
            f"the Airflow task ends {world.state}, not {script.end}"
        )
    check_no_result_was_dropped(world)
    if world.state == "success":
        check_success(world)


def check_number_of_starts(world: World) -> None:
    """A retry attaches: only an agent task that failed, or that was stopped, is started anew."""
    script, policy = world.script, world.settings
    is_started_once = (
        set(world.kinds) <= {"crash"}
        and script.ends == (COMPLETED,)
        and (script.end == "success" or "start" in script.lost_answers)
        and (world.service.has_keys or policy.on_uncertain_submit == "fail")
    )
    assert not is_started_once or len(world.service.tasks) <= 1, f"started {len(world.service.tasks)} times"


def check_success(world: World) -> None:
    assert world.result is not None
    delivered, settings = world.service.tasks[world.result.task_id], world.settings
    assert world.xcoms["status"] == world.result.status.value
    if settings.wait_for_completion and settings.on_awaiting_input != "return":
        assert world.result.result == expect_result(world, delivered.task_id)
        assert len(delivered.heard) == len(world.script.questions), "a question was never answered"
        sent = [answer for answer in world.xcoms.get("answers", ()) if answer["sent"]]
        expected = 0 if world.script.people == "on the service" else len(delivered.heard)
        assert len(sent) == expected, f"XCom has {len(sent)} answers that were sent"
        assert world.desk.form is None or world.desk.form.response, "a form is left open"


def expect_result(world: World, task_id: str) -> Any:
    if world.settings.stream and task_id not in world.saved_results:
        return None  # only the stream had it, and the worker was lost, or the stream broke, before it came
    result, path = f"result of {task_id}", f"agents/{task_id}/result.txt"
    if len(result) <= world.settings.max_xcom_bytes:
        return result
    assert world.files[path] == result.encode()
    assert f"files:{path}" in [entry["path"] for entry in world.xcoms["artifacts"]]
    return {"path": f"files:{path}", "size": len(result), "type": "text/plain", "preview": result}


def check_no_result_was_dropped(world: World) -> None:
    if {"clear", "timeout"} & set(world.kinds):
        return
    completed = [task for task in world.service.tasks.values() if task.locate(world.now)[1] is COMPLETED]
    # What the record still names, the next try takes.
    kept = {*world.delivered, world.store.task_id if world.store else None}
    lost = {task.task_id for task in completed if task.task_id in world.service.recorded} - kept
    assert not lost, f"completed, and nobody has the result: {lost}"


@pytest.mark.parametrize("name", LIVES)
def test_a_quiet_life_ends_as_it_should(name: str) -> None:
    world = World(LIVES[name])
    world.is_thorough = True
    live(world)
    assert world.state == LIVES[name].end


@pytest.mark.parametrize("name", LIVES)
def test_each_life_survives_each_interruption(name: str, record_property: Any) -> None:
    lives = list(list_singles(LIVES[name]))
    for interruption in lives:
        live(World(LIVES[name], interruption))
    record_property("lives with one interruption", len(lives))


# A later retry differs in what the service shows by then, which the single interruptions have tried.
@pytest.mark.parametrize("name", [name for name in LIVES if "late retry" not in name])
def test_each_life_survives_each_pair_of_crashes(name: str, record_property: Any) -> None:
    # After a command is before the next one: nothing lies between them.
    def crash_again(world: World) -> None:
        live(lose_worker(world))
        counts["pairs"] += 1

    def crash(world: World) -> None:
        other = lose_worker(world)
        other.on_command = crash_again
        live(other)

    counts = Counter[str]()
    world = World(LIVES[name])
    world.on_command = crash
    live(world)
    record_property("lives with two crashes", counts["pairs"])


@pytest.mark.parametrize("name", LIVES)
def test_each_life_survives_a_kill_whose_worker_is_lost_before_it_is_done(
    name: str, record_property: Any
) -> None:
    lives = 0
    for number in range(1, count_commands(LIVES[name]) + 1):
        kill = Interruption("kill", number, is_after=False)
        for later in range(1, 5):
            live(World(LIVES[name], (kill, Interruption("crash", later, is_after=True))))
            lives += 1
    record_property("lives with a kill and a crash", lives)


def lose_worker(world: World) -> World:
    """Return how the life goes on where the worker is lost here."""
    other = world.fork()
    other.lose_worker()
    return other


# --- the checks themselves: mistakes that they have to find ------------------------------------------------

#: What is wrong → a life that fails, a module of `lifecycle/`, its text, the text with the mistake.
MISTAKES = {
    "the record is saved late": (
        "lightcone, on the worker: plain",
        "attach_or_submit",
        "    yield from start.execution.save(submission)\n    try:\n",
        "    try:\n",
    ),
    "the key is renewed": (
        "lightcone, on the worker: plain",
        "attach_or_submit",
        "return (yield from _send(start, found))",
        "return (yield from _submit(start))",
    ),
    "a reply is marked as sent before it is": (
        "lightcone, on the worker: answered by someone",
        "send_reply",
        ".move(Stage.SENDING, (yield from ReadClock()))",
        ".move(Stage.SENT, (yield from ReadClock()))",
    ),
    "the stop is forgotten after a clear": (
        "lightcone, on the worker: plain",
        "attach_or_submit",
        "        yield from _stop_earlier(start, found, old)",
        "        pass",
    ),
    "the result is dropped": (
        "lightcone, on the worker: plain",
        "outcome",
        '        yield from info("Completed: %s", task)\n',
        '        yield from info("Completed: %s", task)\n        yield from execution.drop()\n',
    ),
    "a stop is not recorded before it is made": (
        "lightcone, on the worker: must not ask",
        "stop",
        "    yield from warn_on_failure(execution.mark(is_stopping=True))\n",
        "",
    ),
    "what completed before a stop is started anew": (
        "lightcone, on the worker: completes while it is stopped",
        "attach_or_submit",
        "        if task.status is not TaskState.COMPLETED:\n",
        "        if True:\n",
    ),
    "a retry starts anew": (
        "lightcone, on the worker: plain",
        "attach_or_submit",
        "    if must_stop and not task.is_terminal:\n",
        "    if not task.is_terminal:\n",
    ),
    "an uncertain start is repeated": (
        "shinzo, on the worker: uncertain start fails",
        "attach_or_submit",
        "        if not start.resubmits:\n            raise\n",
        "",
    ),
    "a question is failed and its agent goes on": (
        "lightcone, on the worker: must not ask",
        "outcome",
        "        fate = (yield from stop(execution))[1]\n",
        '        fate = ""\n',
    ),
    "the user's stop is forgotten": (
        "lightcone, on the worker: stopped by someone",
        "answer_questions",
        "    task, fate = yield from stop(execution)\n",
        '    task, fate = None, ""\n',
    ),
    "the answers are not pushed": (
        "lightcone, on the worker: answered by someone",
        "execution",
        "        yield from PushQuestions(questions)\n",
        "",
    ),
    "a called-back task polls as any other": (
        "shinzo, deferred: called back",
        "callback",
        "return is_free and (yield from is_called_back(execution))",
        "return False and (yield from is_called_back(execution))",
    ),
    "the record does not say that the service calls": (
        "shinzo, deferred: called back",
        "callback",
        "    is_called_back = not callback.is_out_of_reach\n",
        "    is_called_back = False\n",
    ),
    "a call that cannot come is relied on": (
        "shinzo, deferred: out of reach",
        "callback",
        "    is_called_back = not callback.is_out_of_reach\n",
        "    is_called_back = True\n",
    ),
    "the call names another submission": (
        "shinzo, deferred: called back",
        "callback",
        "MakeCallback(submission.idempotency_key, ",
        'MakeCallback("another", ',
    ),
    "the worker checks although nothing can have changed": (
        "shinzo, deferred: called back",
        "run",
        "    if is_new and execution.settings.deferrable and (yield from is_called_back(execution)):\n",
        "    if False:\n",
    ),
    "a check that failed is left to the next call": (
        "shinzo, deferred: called back during an outage",
        "run",
        "decision.task is not None and (yield from relies_on_callback(execution))",
        "(yield from relies_on_callback(execution))",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str, tmp_path: Path) -> None:
    life, module, right, wrong = MISTAKES[mistake]
    package = Path(airflow_agent_tasks.__file__).parent
    modules = ("__init__", "documentation", "text", "logger_protocol", "agent_task", "errors")
    for name in (f"{module}.py" for module in modules):
        (tmp_path / package.name).mkdir(exist_ok=True)
        shutil.copy(package / name, tmp_path / package.name)
    for name in ("services", "lifecycle"):
        shutil.copytree(package / name, tmp_path / package.name / name)
    path = tmp_path / package.name / "lifecycle" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    assert source.count(right) == 1
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(package.parent)])}
    program = f"from tests.lifecycle.test_crashed_lives import find_failure; find_failure({life!r})"
    command = [sys.executable, "-c", program]
    found = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "AssertionError: " in found.stderr, found.stderr or "no life has failed"


def find_failure(name: str) -> None:
    """Live a life with each interruption, until one fails."""
    for interruptions in itertools.chain([()], list_singles(LIVES[name])):
        live(World(LIVES[name], interruptions))


@pytest.mark.parametrize("where", ["on the worker", "deferred"])
@pytest.mark.parametrize("name", ["streamed", "streamed, answered by a program", "streamed, fails"])
def test_a_quiet_stream_delivers_its_result(name: str, where: str) -> None:
    world = World(LIVES[f"lightcone, {where}: {name}"]).live()
    assert world.result is not None
    assert world.result.result == f"result of {world.result.task_id}"
