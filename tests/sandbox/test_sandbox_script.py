from __future__ import annotations

import pytest

from airflow_agent_tasks.sandbox.script import Script, ScriptError, read_script


def test_a_text_without_a_script_does_three_steps_of_half_a_second_and_succeeds():
    script = read_script("Book a table for two.")
    assert (script.steps, script.step_seconds, script.queued_seconds) == (3, 0.5, 0)
    assert (script.final_status, script.final_exit_code, script.ask) == ("completed", 0, [])
    assert set(script.final_result) == {"summary"}


@pytest.mark.parametrize(
    "text",
    [
        '#sandbox {"steps": 7}',
        '#sandbox {"steps": 7}\nBook a table.',
        '#sandbox{"steps": 7}\r\nBook a table.',
        '\n    #sandbox {"steps": 7}\n    Book a table.',
    ],
)
def test_the_first_line_is_the_script(text):
    assert read_script(text).steps == 7


@pytest.mark.parametrize("text", ['Book.\n#sandbox {"steps": 7}', "#sandboxes are fun", "", "# sandbox {"])
def test_anything_else_is_no_script(text):
    assert read_script(text) == Script()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("#sandbox", "not JSON"),
        ("#sandbox steps=2", "not JSON"),
        ('#sandbox {"steps": 2', "not JSON"),
        ('#sandbox {"step_seconds": NaN}', "NaN"),
        ("#sandbox [1]", "invalid"),
        ('#sandbox {"stepps": 2}', "stepps: no such key"),
        ('#sandbox {"steps": 0}', "steps"),
        ('#sandbox {"steps": "2"}', "steps"),
        ('#sandbox {"steps": true}', "steps"),
        ('#sandbox {"step_seconds": -1}', "step_seconds"),
        ('#sandbox {"queued_seconds": "soon"}', "queued_seconds"),
        ('#sandbox {"ask": "which?"}', "ask"),
        ('#sandbox {"ask": [""]}', "ask.0"),
        ('#sandbox {"exit_code": 1.5}', "exit_code"),
        ('#sandbox {"status": "running"}', "status"),
        ('#sandbox {"events": [{"image": "x"}]}', "events.0.type"),
        ('#sandbox {"events": {"type": "x"}}', "events"),
        ('#sandbox {"usage": [1]}', "usage"),
        ('#sandbox {"tool_calls": [{"tool": "x"}]}', "tool_calls.0.name"),
        ('#sandbox {"deltas": false}', "deltas"),
        ('#sandbox {"deltas": ""}', "deltas"),
        ('#sandbox {"screenshots": -1}', "screenshots"),
        ('#sandbox {"screenshot_bytes": 199}', "screenshot_bytes"),
        ('#sandbox {"files": [{"name": "x"}]}', "files.0: a file needs either text or bytes"),
        ('#sandbox {"files": [{"name": "x", "text": "", "bytes": 0}]}', "files.0: a file needs"),
        ('#sandbox {"files": [{"name": "x", "txt": ""}]}', "files.0.txt: no such key"),
        ('#sandbox {"files": [{"name": "x", "text": ""}], "result": 5}', "files: they require a result"),
        ('#sandbox {"stream": {}}', "stream: stream needs one of cut_after"),
        ('#sandbox {"stream": {"cut_after": 1.25}}', "stream.cut_after"),
        ('#sandbox {"stream": {"cut_after": -1}}', "stream.cut_after"),
        ('#sandbox {"stream": {"cut_after": 1, "stall_after": 1}}', "stream needs one of"),
        ('#sandbox {"stream": {"cut_before_completion": false}}', "stream needs one of"),
        ('#sandbox {"stream": {"stall_after": 0.5}}', "stream.stall_after"),
        ('#sandbox {"callbacks": "later"}', "callbacks: Input should be 'once', 'twice'"),
        ('#sandbox {"callback_seconds": -1}', "callback_seconds"),
    ],
)
def test_a_wrong_script_is_refused_by_the_name_of_its_key(line, named):
    with pytest.raises(ScriptError, match="#sandbox line") as refusal:
        read_script(line)
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("line", "status", "exit_code"),
    [
        ('#sandbox {"exit_code": 3}', "failed", 3),
        ('#sandbox {"status": "failed"}', "failed", 1),
        ('#sandbox {"status": "cancelled"}', "cancelled", 1),
        ('#sandbox {"status": "completed", "exit_code": 2}', "completed", 2),
        ('#sandbox {"status": "failed", "exit_code": 0}', "failed", 0),
        ('#sandbox {"status": "hibernating"}', "hibernating", 0),
    ],
)
def test_the_final_word_and_the_exit_code_follow_from_each_other_unless_both_are_given(
    line, status, exit_code
):
    script = read_script(line)
    assert (script.final_status, script.final_exit_code) == (status, exit_code)


@pytest.mark.parametrize(
    ("json", "result"), [("null", None), ("[1, 2]", [1, 2]), ('{"a": {"b": 1}}', {"a": {"b": 1}})]
)
def test_the_result_is_any_json_also_null(json, result):
    assert read_script(f'#sandbox {{"result": {json}}}').final_result == result
