"""What agents do can be said beside the instruction, and other connections point to the sandbox too."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.sandbox.script import ScriptRule
from airflow_agent_tasks.sandbox.server import Sandbox

STARTS = {"lightcone": ("start", "/agent/tasks/{}"), "shinzo": ("submit", "/agent/agt_abc/task/{}")}


@pytest.fixture(params=STARTS)
def run(request: Any, http: Any, sandbox: Sandbox, wait_until: Any) -> Any:
    """Return a function that starts a task on either service, and returns how it ended."""

    def run(text: str) -> Any:
        method, _ = STARTS[request.param]
        task_id = getattr(http, method)(text)["task_id"]

        def find_ended() -> Any:
            return next(
                (one for one in sandbox.tasks() if one["task_id"] == task_id and one["ended_at"]), None
            )

        return wait_until(find_ended)

    return run


@pytest.mark.parametrize(
    ("match", "text", "is_match"),
    [
        ("", "anything", True),
        ("milk", "Order milk.", True),
        ("milk", "Order bread.", False),
        ("^Order", "Order milk.", True),
        ("^milk", "Order milk.", False),
        (r"\d litres", "Order 2 litres.", True),
        ("(?i)ORDER", "order milk", True),
        ("ORDER", "order milk", False),
        ("Contoso (Ltd.)", "Ask Contoso (Ltd.) for it.", True),
        ("Contoso (Ltd", "Ask Contoso (Ltd.) for it.", True),
        ("[", "one [ two", True),
        ("[", "one two", False),
        ("first.*third", "first\nsecond\nthird", False),
        ("(?s)first.*third", "first\nsecond\nthird", True),
    ],
)
def test_a_script_applies_to_what_matches(
    run: Any, sandbox: Sandbox, match: str, text: str, is_match: bool
) -> None:
    sandbox.script(steps=1, step_seconds=0)
    sandbox.script(match=match, steps=1, step_seconds=0, exit_code=7)
    assert run(text)["exit_code"] == (7 if is_match else 0)


def test_the_newest_match_applies_and_a_line_in_the_instruction_comes_first(
    run: Any, sandbox: Sandbox
) -> None:
    sandbox.script(step_seconds=0, exit_code=1)
    sandbox.script(match="milk", step_seconds=0, exit_code=2)
    sandbox.script(match="Order", step_seconds=0, exit_code=3)
    assert run("Order milk.")["exit_code"] == 3
    assert run("Buy milk.")["exit_code"] == 2
    assert run("Buy bread.")["exit_code"] == 1
    assert run('#sandbox {"step_seconds": 0, "exit_code": 4}\nOrder milk.')["exit_code"] == 4


def test_a_script_holds_until_it_is_forgotten(run: Any, sandbox: Sandbox) -> None:
    sandbox.script(match="milk", step_seconds=0, exit_code=2)
    assert [run("milk")["exit_code"] for _ in range(3)] == [2, 2, 2]
    sandbox.forget()
    sandbox.script(step_seconds=0)
    assert run("milk")["exit_code"] == 0


#: Each key but ``result``, which may be any JSON, and those of the wrong values below that are right for it.
KEYS = {
    "steps": [],
    "step_seconds": [1.5],
    "titles": [],
    "ask": [],
    "exit_code": [-1],
    "status": ["x"],
    "queued_seconds": [1.5],
    "events": [],
    "usage": [{"a": 1}],
    "tool_calls": [],
    "deltas": ["x", True],
    "screenshots": [],
    "screenshot_bytes": [],
    "files": [],
    "stream": [],
    "callbacks": [],
    "callback_seconds": [1.5],
    "match": ["x"],
}


def test_every_key_is_tried_with_wrong_values() -> None:
    assert set(KEYS) == set(ScriptRule.model_fields) - {"result"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [-1, "x", [5], {"a": 1}, True, 1.5])
def test_a_wrong_value_is_refused_in_a_sentence(sandbox: Sandbox, key: str, value: Any) -> None:
    if repr(value) in map(repr, KEYS[key]):
        sandbox.script(**{key: value})
        return
    with pytest.raises(AgentTaskArgumentError) as caught:
        sandbox.script(**{key: value})
    assert f"{key}" in str(caught.value)
    assert "The keys of a script: ask, callback_seconds, callbacks, deltas, events" in str(caught.value)


def test_an_unknown_key_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(AgentTaskArgumentError, match=r"exitcode: no such key\. The keys of a script: ask,"):
        sandbox.script(match="milk", exitcode=5)


@pytest.mark.parametrize("value", [object(), {1, 2}, re.compile("a"), b"a"])
@pytest.mark.parametrize("key", ["match", "result"])
def test_what_is_no_json_is_refused_in_a_sentence(sandbox: Sandbox, key: str, value: Any) -> None:
    with pytest.raises(AgentTaskArgumentError, match="must be JSON"):
        sandbox.script(**{key: value})


@pytest.mark.parametrize(("service", "given"), [("lightcone", {}), ("shinzo", {"service": "shinzo"})])
@pytest.mark.parametrize("conn_id", ["my_conn", "My.Conn-2"])
def test_another_connection_points_to_the_sandbox_as_the_default_one_does(
    sandbox: Sandbox, service: str, given: dict[str, str], conn_id: str
) -> None:
    sandbox.connect(conn_id, **given)
    default = json.loads(os.environ[f"AIRFLOW_CONN_{service.upper()}_DEFAULT"])
    assert json.loads(os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"]) == default


@pytest.mark.parametrize("conn_id", ["", " ", None, 5, "a b", "a=b", "ä/b", "a\0b"])
def test_a_connection_id_that_airflow_does_not_accept_is_refused(sandbox: Sandbox, conn_id: Any) -> None:
    with pytest.raises(AgentTaskArgumentError, match="conn_id must consist of letters"):
        sandbox.connect(conn_id)


@pytest.mark.parametrize("service", ["", "Lightcone", "http", None, 5, ["shinzo"]])
def test_another_service_is_refused(sandbox: Sandbox, service: Any) -> None:
    with pytest.raises(AgentTaskArgumentError, match="service must be 'lightcone' or 'shinzo', not"):
        sandbox.connect("my_conn", service)


def test_what_was_connected_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", "before")
    monkeypatch.delenv("AIRFLOW_CONN_OTHER", raising=False)
    with Sandbox() as sandbox:
        for _ in range(2):
            sandbox.connect("mine")
            sandbox.connect("other", service="shinzo")
        assert os.environ["AIRFLOW_CONN_MINE"] != "before"
    assert os.environ["AIRFLOW_CONN_MINE"] == "before"
    assert "AIRFLOW_CONN_OTHER" not in os.environ
