"""The events of the sandbox's stream, over real sockets, and what they mean."""

from __future__ import annotations

import json

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.sandbox.server import Sandbox
from airflow_agent_tasks.services.event_text import SentenceJoiner
from airflow_agent_tasks.services.stream_events import StreamEvent, read_event
from airflow_agent_tasks.services.transcript import Transcript

TEXT = "First I open the page. Then I read it, all 3.5 pages! Done."
SCRIPT = {
    "steps": 4,
    "step_seconds": 0.02,
    "usage": {"steps": 4, "cost": 0.5},
    "screenshots": 2,
    "screenshot_bytes": 20_000,
    "tool_calls": [{"name": "search", "arguments": {"query": "weather"}}],
    "deltas": TEXT,
}


def test_a_whole_stream_is_read(agent_task_sandbox: Sandbox) -> None:
    joiner, transcript = SentenceJoiner(), Transcript()
    read: list[StreamEvent] = []
    sentences: list[str] = []
    for event in LightconeHook().stream_task(
        instruction=f"#sandbox {json.dumps(SCRIPT)}", stream_deltas=True, stream_mode="verbose"
    ):
        found = read_event(event, LightconeHook.dialect, screenshots=sum(one.screenshots for one in read))
        read.append(found)
        sentences += joiner.add(found.delta)
        transcript.add(event)
    sentences += joiner.flush()
    lines = [found.line for found in read if found.line]
    assert sentences == ["First I open the page.", "Then I read it, all 3.5 pages!", "Done."]
    assert [line for line in lines if line.startswith("Screenshot")] == ["Screenshot 1", "Screenshot 2"]
    assert 'Tool: search(query="weather")' in lines
    assert any(line.startswith("Step 1 of 4: ") for line in lines)
    assert lines[-1] == "Finished: completed, exit code 0"
    assert read[-1].is_completion
    assert read[-1].task is not None
    assert read[-1].task.status is TaskState.COMPLETED
    assert read[-1].usage == {"steps": 4, "cost": 0.5}
    (task,) = agent_task_sandbox.tasks()
    assert {found.task_id for found in read} == {task["task_id"]}
    kept = transcript.to_json()
    assert (len(kept["events"]), kept["left_out"]) == (len(read), 0)
    assert len(json.dumps(kept)) < 20_000
