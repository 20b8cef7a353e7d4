"""The state in a response: whatever else the body holds, and however large it is."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.http import Response, parse_json
from airflow_agent_tasks.services.state_fields import MAX_FIELD_BYTES, keep_state, read_state
from tests.service_samples import AGENT_ID, LIGHTCONE, NOW, SHINZO, TASK_ID, build_status, parse_task

SIZE = 1_000_000


def no_pause() -> None:
    """Let no other thread run."""


def read(body: bytes) -> dict[str, Any]:
    """Return the state, which is the same if the body was reduced first."""
    state = read_state(Response(200, {}, body))
    assert read_state(Response(200, {}, keep_state(Response(200, {}, body), no_pause))) == state
    return state


def read_task(body: bytes, dialect: Dialect = SHINZO) -> AgentTask:
    return dialect.parse_task(
        build_status(dialect),
        Response(200, {}, body),
        task_id=TASK_ID,
        agent_id=AGENT_ID,
        now=NOW,
        has_result=False,
    )


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"status": "running", "result": {"a": [1, 2]}}', {"status": "running"}),
        (b'{"result": 1}', {}),
        (b"{}", {}),
        (b" \r\n{ } ", {}),
        (b'\xef\xbb\xbf{"status": "queued"}', {"status": "queued"}),
        (b'\xef\xbb\xbf{"status": "queued", "result": NaN}', {"status": "queued"}),
        (b'{"status": "gr\xf6n"}', {"status": "gr\ufffdn"}),
        (b'{"status": "a", "status": "b"}', {"status": "b"}),
        (b'{"status": "a", "status": "b", "x": NaN}', {"status": "b"}),
        (b'{"\\u0073tatus": "running"}', {"status": "running"}),
        (b'{"status": {"a": 1}, "exit_code": [0]}', {"status": None, "exit_code": None}),
        (b'{"exit_code": NaN, "status": "running"}', {"exit_code": None, "status": "running"}),
        (b'{"status" : "a" , "x":NaN , "exit_code" :\n0\t}', {"status": "a", "exit_code": 0}),
        (
            b'{"x": NaN, "question": "\\"status\\": \\\\", "status": "a"}',
            {"question": '"status": \\', "status": "a"},
        ),
        (b'{"x": [{"status": "no"}, NaN], "status": "a"}', {"status": "a"}),
        (b'{"x": "status", "y": NaN, "status": "a"}', {"status": "a"}),
        (b'{"x": "}{][", "y": NaN, "status": "a"}', {"status": "a"}),
        (b'{"\xed\xff": NaN, "\\ud800": 1, "\\u0073tatus": "a"}', {"status": "a"}),
        (b'{"status": "a", "status": NaN}', {"status": None}),
        (b'{"progress": 5, "status": "a"}', {"status": "a"}),
        (b'{"progress": {"total_steps": 3, "x": [NaN]}}', {"progress": {"total_steps": 3}}),
        (b'{"progress": {"status": "no", "current_step": [1]}}', {"progress": {"current_step": None}}),
        (b'{"question": "What is NaN?", "result": -Infinity}', {"question": "What is NaN?"}),
    ],
)
def test_the_state_is_read_and_the_rest_is_left(body: bytes, fields: dict[str, Any]) -> None:
    state = read(body)
    assert {name: value for name, value in state.items() if value != {}} == fields


@pytest.mark.parametrize(
    "exit_code",
    [
        *(b"null", b"0", b"-0", b"137", b"3.0", b"3.5", b"1e3", b"true", b'"3"', b"[0]", b"NaN"),
        *(b"%d" % (sign * (2**63 + step)) for sign in (1, -1) for step in (-2, -1, 0, 1)),
    ],
)
@pytest.mark.parametrize(
    "status",
    [
        *(
            b'"running"',
            b'""',
            b'" run "',
            b'"\\u0072unning"',
            b'"a\\u0000"',
            b'"a\\ud800"',
            b'"a\x7f"',
            b"5",
            b"null",
        ),
        *(b'"' + b"a" * length + b'"' for length in (999, 1_000, 1_001)),
        *(b'"gr\xc3\xbcn"', b'"gr\xf6n"', b'"\\ud83d\\ude42"', b'"\xc2\xa0"'),
    ],
)
def test_the_state_is_the_same_whether_or_not_other_fields_are_there(status: bytes, exit_code: bytes) -> None:
    alone = b'{"status": %b, "exit_code": %b}' % (status, exit_code)
    assert read(alone) | {"usage": None} == read(alone[:-1] + b', "usage": null}')


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"[1]", b'"running"', b"5", b"null", b"NaN", b"<html>", b"{", b"}", b"\xff\xfe"),
        *(b'{"status": "runn', b'{"status": "a"', b'{"status": "a"} x', b'x {"status": "a"}'),
        *(b'{"status": "a", "x": [NaN}', b'{"result": ' + b"[" * 200_000, b'{"a":' * 200_000),
    ],
)
def test_what_is_no_object_has_no_state(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        read_state(Response(200, {}, body))
    with pytest.raises(ValueError, match="not a JSON object"):
        keep_state(Response(200, {}, body), no_pause)


def fill(piece: bytes, size: int = SIZE) -> bytes:
    return piece * (size // len(piece))


#: Large results.
RESULTS: dict[str, bytes] = {
    "a text": b'"' + fill(b"a") + b'"',
    "escapes": b'"' + fill(rb"\n") + b'"',
    "more escapes": b'"' + fill(rb"\u0041") + b'"',
    "backslashes": b'"' + fill(rb"\\") + b'"',
    "quotation marks": b'"' + fill(rb"\"") + b'"',
    "no UTF-8": b'"' + fill(b"\xff") + b'"',
    "lists": b"[" + fill(b"[],") + b"1]",
    "objects": b"[" + fill(b"{},") + b"1]",
    "numbers": b"[" + fill(b"1,") + b"1]",
    "texts": b"[" + fill(b'"",') + b"1]",
    "rows": b"[" + fill(b'{"a":1},') + b"1]",
    "keys": b"{" + fill(b'"a":1,') + b'"b":1}',
    "a huge number": fill(b"9"),
    "blanks": b"1" + fill(b" "),
    "deep lists": fill(b"[", SIZE // 2) + fill(b"]", SIZE // 2),
    "deep objects": fill(b'{"a":', SIZE // 6 * 5) + b"1" + fill(b"}", SIZE // 6),
}
CASES = RESULTS | {
    f"{name} with NaN": b"[" + text[:-1] + text[-1:] + b",NaN]" for name, text in RESULTS.items()
}


@pytest.mark.parametrize("name", CASES)
def test_a_large_result_does_not_hide_the_state(name: str) -> None:
    for body in (
        b'{"status": "completed", "exit_code": 3, "result": ' + CASES[name] + b"}",
        b'{"result": ' + CASES[name] + b', "status": "completed", "exit_code": 3}',
    ):
        kept = keep_state(Response(200, {}, body), no_pause)
        assert len(kept) < 100
        assert read_state(Response(200, {}, kept)) == {"status": "completed", "exit_code": 3}


FIELDS = ["status", "exit_code", "progress", "question", "message"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_field_is_cut_or_left_out(field: str, name: str) -> None:
    body = b'{"' + field.encode() + b'": ' + CASES[name] + b', "exit_code": 3}'
    kept = keep_state(Response(200, {}, body), no_pause)
    assert len(kept) < MAX_FIELD_BYTES + 100
    assert read_state(Response(200, {}, kept))["exit_code"] == 3


@pytest.mark.parametrize("field", FIELDS)
def test_a_hostile_field_costs_no_memory(field: str) -> None:
    body = b'{"' + field.encode() + b'": [' + fill(b"[],", 4_000_000) + b"1]}"
    tracemalloc.start()
    keep_state(Response(200, {}, body), no_pause)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(body)


@pytest.mark.parametrize("text", ["a", "ä", "🙂", '"', "\\", "\n", "a🙂"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_long_question_is_the_same_with_and_without_the_result(text: str, is_ascii: bool) -> None:
    for length in range(20_000, 20_012):
        body = json.dumps(
            {"status": "awaiting_input", "question": "x" * (length % 12) + text * length},
            ensure_ascii=is_ascii,
        ).encode()
        whole = parse_task(SHINZO, Response(200, {}, body))
        assert read_task(body).question == whole.question
        assert read_task(keep_state(Response(200, {}, body), no_pause)).question == whole.question


@pytest.mark.parametrize(
    "value", ["9" * 200_000, "-" + "9" * 200_000, "1" * 200_000 + "e5", "[]", "{}", "true", "1.5"]
)
@pytest.mark.parametrize("field", ["status", "exit_code", "question"])
def test_an_odd_field_is_the_same_with_and_without_the_result(field: str, value: str) -> None:
    body = f'{{"status": "awaiting_input", "{field}": {value}}}'.encode()
    parse_json(body.decode())
    outcomes = []
    for read_one in (
        lambda: parse_task(LIGHTCONE, Response(200, {}, body)),
        lambda: read_task(body, LIGHTCONE),
    ):
        try:
            outcomes.append(str(read_one()))
        except Exception as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


LONG = b'"' + fill(rb"\\\\", 60_000) + b'"'
ALL_FIELDS = b",".join(
    b'"%s":%s' % (name, LONG)
    for name in (
        b"status",
        b"exit_code",
        b"question",
        b"prompt",
        b"input_request",
        b"message",
        b"current_step",
    )
)


def test_what_is_kept_of_many_long_fields_is_cut_to_what_is_shown() -> None:
    body = b'{%s,"progress":{%s}}' % (ALL_FIELDS, ALL_FIELDS)
    kept = keep_state(Response(200, {}, body), no_pause)
    state = read_state(Response(200, {}, kept))
    assert len(state["question"]) == len(state["progress"]["prompt"]) == 10_000
    assert len(state["status"]) == len(state["exit_code"]) == 1_000


@pytest.mark.parametrize("blank", [b" ", b"\n", b"\t\r"])
def test_megabytes_of_blanks_cost_no_time(blank: bytes) -> None:
    body = b'{"a"' + fill(blank, 10_000_000) + b':NaN,"status":"running",}'
    began = time.thread_time()
    assert read_state(Response(200, {}, body))["status"] is None  # the comma is one too many
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("value", ['"running"', '"run\\"' + " " * 130_000 + '"', "3", "null", "-1.5e3"])
@pytest.mark.parametrize("more", ["", ', "x": NaN', ',{blanks}"x": 1', ', "x": NaN,{blanks}"y": 1'])
def test_a_value_is_found_among_many_blanks(value: str, more: str) -> None:
    for blanks in (" " * 130_000, "\n" * 120_000):
        after = more.replace("{blanks}", blanks)
        status = json.loads(value)
        body = f'{blanks}{{"status"{blanks}:{blanks}{value}{blanks}{after}{blanks}}}{blanks}'.encode()
        assert read(body) == {"status": status[:1_000] if isinstance(status, str) else status}
        body = f'{{"status": {value},{blanks}"x": 1}}'.encode()
        assert read(body) == {"status": status[:1_000] if isinstance(status, str) else status}


@pytest.mark.parametrize("size", range(MAX_FIELD_BYTES - 12, MAX_FIELD_BYTES + 3))
def test_a_text_about_as_long_as_the_longest_is_read(size: int) -> None:
    for rest in ('"}', '"  }', '",\n    "x":1}', '", "x": NaN}', '"   , "x": 1}'):
        assert len(read(b'{"question": "' + b"x" * (size - 2) + rest.encode())["question"]) == 10_000


FLAT = {
    "many keys": {f"{number:x}": "" for number in range(250_000)},
    "many lists": {f"run{number}": ["ab"] * 3_000 for number in range(200)},
    "many keys in the progress": {"progress": {f"{number:x}": "" for number in range(250_000)}},
}


@pytest.mark.parametrize("name", FLAT)
def test_an_object_with_much_on_its_first_level_is_read(name: str) -> None:
    body = json.dumps({**FLAT[name], "status": "completed"}).encode()
    assert read(body)["status"] == "completed"
    body = json.dumps({"status": "running", "progress": {**FLAT[name], "current_step": "x"}}).encode()
    assert read(body) == {"status": "running", "progress": {"current_step": "x"}}


def test_a_body_with_too_many_strings_to_step_over_is_given_up() -> None:
    body = b'{"x": +1, ' + b'"y": 1, ' * 200_001 + b'"status": "running"}'
    with pytest.raises(ValueError, match="in time"):
        keep_state(Response(200, {}, body), no_pause)


@pytest.mark.parametrize("value", [b"1" * (MAX_FIELD_BYTES + 9), b"-" * (MAX_FIELD_BYTES + 9)])
def test_a_number_that_is_longer_than_any_field_is_cut_or_left_out(value: bytes) -> None:
    body = b'{"x": NaN, "status": ' + value + b"}"
    status = read_state(Response(200, {}, body)).get("status")
    assert status is None or len(str(status)) <= MAX_FIELD_BYTES


def test_the_state_is_found_however_the_body_is_divided_for_reading() -> None:
    odd = json.dumps(['\\\\\\"', 'a"}]', {'{"b\\': [1, "\\"]}]).encode() + b", "
    rest = b'{"question": ' + json.dumps('\\"}' * 3).encode() + b', "status": "running", "x": ['
    for shift in range(len(odd)):
        body = rest + b" " * shift + odd * (100_000 // len(odd)) + b'NaN], "exit_code": 3}'
        assert read(body) == {"question": '\\"}' * 3, "status": "running", "exit_code": 3}
