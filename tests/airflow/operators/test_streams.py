"""``stream=True`` through ``dag.test()``: live lines, and one agent task with its right end in any case."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.operators.test_operators import BOTH_MODES, lightcone, operator, starts
from tests.airflow.questions import log_of

#: How a stream fails, and the line in the log that says so.
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "cut before the first event": ({"cut_after": 0}, "Starting without the stream, with the same"),
    "cut in the first event": ({"cut_after": 0.5}, "Starting without the stream, with the same"),
    "cut after the first event": ({"cut_after": 1}, "The event stream broke off."),
    "cut in a later event": ({"cut_after": 2.5}, "The event stream broke off."),
    "cut before the completion": ({"cut_before_completion": True}, "The event stream broke off."),
    # The status may see the end first.
    "stalled": ({"stall_after": 1}, "Completed: "),
    "ended without completion": ({"omit_completion": True}, "Completed: "),
}


def streamed(script: dict[str, Any] | None = None, **arguments: Any) -> str:
    return lightcone({"steps": 3, **(script or {})}, stream=True, **arguments)


@BOTH_MODES
def test_a_stream_shows_each_step_at_once_and_brings_the_result(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, deferrable: bool
) -> None:
    script = {
        "result": {"ordered": 2},
        "tool_calls": [{"name": "click", "arguments": {"x": 5}}],
        "deltas": "I look for milk. Then I buy it.",
        "usage": {"cost": 0.5},
    }
    run = run_dag(streamed(script, stream_deltas=True, deferrable=deferrable))
    assert run.state == "success"
    assert starts(agent_task_sandbox) == 1
    assert run.xcom("agent")["result"] == {"ordered": 2}
    assert run.xcom("agent", "usage") == {"cost": 0.5}
    log = log_of(capfd)
    for line in (
        "Step 2 of 3",
        "click",
        "Agent: I look for milk.",
        "Agent: Then I buy it.",
        "Usage: cost 0.5",
    ):
        assert line in log
    transcript = run.xcom("agent", "transcript")
    assert transcript["events"][-1]["type"] == "completion"
    assert transcript["left_out"] == 0


def test_the_agents_words_never_show_the_key_though_no_delta_has_it_whole(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    # Airflow itself masks only the plain key.
    key = base64.b64encode(agent_task_sandbox.api_key.encode()).decode()
    run = run_dag(streamed({"deltas": f"The key is {key} now. Or was it {key}"}, stream_deltas=True))
    assert run.state == "success"
    said = re.findall(r"Agent: (.+?) +\[airflow", log_of(capfd))
    # The end of the key in base64 depends on its length, so that is not masked.
    assert said == ["The key is ***A== now.", "Or was it ***A=="]


@BOTH_MODES
@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_that_fails_costs_nothing_but_its_lines(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, fault: str, deferrable: bool
) -> None:
    stream, line = FAULTS[fault]
    run = run_dag(streamed({"stream": stream}, deferrable=deferrable))
    assert run.state == "success"
    assert run.xcom("agent")["exit_code"] == 0
    assert starts(agent_task_sandbox) == 1
    assert line in log_of(capfd)


@BOTH_MODES
def test_a_stream_that_is_refused_is_replaced_by_a_start(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "/agent/tasks/stream", "times": 1, "status": 503}])
    run = run_dag(streamed(deferrable=deferrable))
    assert run.state == "success"
    assert starts(agent_task_sandbox) == 1


def test_a_rejected_stream_is_not_tried_again(run_dag: Any, agent_task_sandbox: Any) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "/agent/tasks", "times": 9, "status": 401}])
    run = run_dag(streamed())
    assert run.state == "failed"
    assert len(agent_task_sandbox.requests()) == 1


@BOTH_MODES
def test_an_agent_that_asks_in_its_stream_is_answered(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, deferrable: bool
) -> None:
    body = streamed({"ask": ["Which one?"], "result": "done"}, deferrable=deferrable)
    run = run_dag(body[:-1] + ", reply=lambda question: 'The blue one.')")
    assert run.state == "success"
    assert run.xcom("agent")["result"] == "done"
    (task,) = agent_task_sandbox.tasks()
    assert [message["message"] for message in task["messages"]] == ["The blue one."]
    # The stream goes on after the answer.
    assert "Step 3 of 3" in log_of(capfd)


def test_everything_in_a_stream_is_kept_in_object_storage(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, tmp_path: Path
) -> None:
    script = {"screenshots": 3, "screenshot_bytes": 50_000, "files": [{"name": "a.txt", "text": "Hi"}]}
    run = run_dag(streamed(script, artifacts_path=f"file://{tmp_path}", screenshot_mode="base64"))
    assert run.state == "success"
    (task,) = agent_task_sandbox.tasks()
    folder = tmp_path / "lightcone_default" / task["task_id"]
    names = {path.name for path in folder.iterdir()}
    assert sum(name.endswith(".png") for name in names) == 3
    events = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    assert events[-1]["type"] == "completion"
    listed = {entry["name"] for entry in run.xcom("agent", "artifacts")}
    assert names == listed
    for text in (json.dumps(events), json.dumps(run.xcom("agent", "transcript")), log_of(capfd)):
        assert "iVBOR" not in text


@BOTH_MODES
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "polled"])
def test_a_budget_stops_the_agent_once(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool, is_streamed: bool
) -> None:
    script = {"steps": 100, "step_seconds": 0.1, "usage": {"cost": 10.0, "tokens": 1_000}}
    body = lightcone(script, deferrable=deferrable, stream=is_streamed, budget={"cost": 0.5}, retries=3)
    run = run_dag(body)
    assert run.state == "failed"
    assert run.tries("agent") == 1
    (task,) = agent_task_sandbox.tasks()
    assert task["status"] == "paused"
    stops = [one for one in agent_task_sandbox.requests() if one["path"].endswith("/pause")]
    assert len(stops) == 1
    error = run.xcom("agent", "error")
    # How far it came depends on when the status was asked.
    passed = re.search(r"passed its budget: cost (\d+\.\d+) of 0\.5\. ", error)
    assert passed
    assert float(passed[1]) > 0.5
    assert "tokens" in error


@BOTH_MODES
def test_a_budget_of_steps_counts_those_in_the_stream(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    run = run_dag(streamed({"steps": 100, "step_seconds": 0.1}, deferrable=deferrable, budget={"steps": 3}))
    assert run.state == "failed"
    assert run.tries("agent") == 1
    (task,) = agent_task_sandbox.tasks()
    assert task["status"] == "paused"
    error = run.xcom("agent", "error")
    assert "passed its budget: steps " in error
    assert " of 3." in error


def test_steps_in_a_stream_that_stay_within_the_budget_are_reported(run_dag: Any, capfd: Any) -> None:
    run = run_dag(streamed(budget={"steps": 5}))
    assert run.state == "success"
    assert "did not report" not in log_of(capfd)


@BOTH_MODES
def test_steps_within_the_budget_pass(run_dag: Any, deferrable: bool) -> None:
    body = operator(
        "ShinzoTaskOperator", "message", {"usage": {"cost": 1}}, {"budget": {"cost": 1, "steps": 5}}
    )
    run = run_dag(body)
    assert run.state == "success"
    assert run.xcom("agent", "usage") == {"cost": 1}


def test_a_service_without_a_stream_refuses_it(run_dag: Any) -> None:
    from airflow_agent_tasks.errors import AgentTaskArgumentError
    from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

    with pytest.raises(AgentTaskArgumentError, match="ShinzoTaskOperator does not accept stream"):
        ShinzoTaskOperator(task_id="agent", message="Do it", stream=True)


def test_a_stream_that_nobody_follows_is_refused() -> None:
    from airflow_agent_tasks.errors import AgentTaskArgumentError
    from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

    with pytest.raises(AgentTaskArgumentError, match="needs wait_for_completion=True"):
        LightconeTaskOperator(task_id="agent", instruction="Do it", stream=True, wait_for_completion=False)
