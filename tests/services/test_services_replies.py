"""Replies that bring an agent task: states, exit codes and results."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.errors import AgentTaskReplyError, AgentTaskUncertainError
from airflow_agent_tasks.services.http import MAX_DEPTH, MAX_ID_LENGTH, Response, parse_json
from tests.service_samples import (
    AGENT_ID,
    DIALECTS,
    LIGHTCONE,
    SHINZO,
    TASK_ID,
    build_message,
    build_status,
    build_stop,
    json_reply,
    parse_started,
    parse_task,
    read_status,
    recorded,
)

WORDS = {
    "lightcone": {
        "queued": TaskState.QUEUED,
        "pending": TaskState.QUEUED,
        "starting": TaskState.QUEUED,
        "running": TaskState.RUNNING,
        "in_progress": TaskState.RUNNING,
        "paused": TaskState.PAUSED,
        "awaiting_input": TaskState.AWAITING_INPUT,
        "completed": TaskState.COMPLETED,
        "succeeded": TaskState.COMPLETED,
        "failed": TaskState.FAILED,
        "error": TaskState.FAILED,
        "cancelled": TaskState.CANCELLED,
        "canceled": TaskState.CANCELLED,
    },
    "shinzo": {
        "queued": TaskState.QUEUED,
        "running": TaskState.RUNNING,
        "awaiting_input": TaskState.AWAITING_INPUT,
        "completed": TaskState.COMPLETED,
        "failed": TaskState.FAILED,
        "cancelled": TaskState.CANCELLED,
    },
}
EVERY_WORD = [(service, word) for service in WORDS for word in WORDS[service]]


def read_result(text: str) -> Any:
    """Return the result of a status reply whose result is this JSON text."""
    body = b'{"status": "completed", "result": ' + text.encode("utf-8", "surrogatepass") + b"}"
    return parse_task(SHINZO, Response(200, {}, body)).result


# --- the documents' own replies -----------------------------------------------------------------------


def test_the_documented_reply_to_a_shinzo_submit_is_read() -> None:
    assert parse_started(SHINZO, recorded("shinzo_submitted")) == AgentTask(
        service="shinzo",
        task_id="tsk_xyz789abc123",
        agent_id=AGENT_ID,
        status=TaskState.QUEUED,
        remote_status="queued",
        created_at="2025-01-20T10:00:00Z",
    )


def test_the_documented_202_is_a_success() -> None:
    accepted = Response(202, body=recorded("shinzo_submitted").body)
    assert parse_started(SHINZO, accepted).task_id == "tsk_xyz789abc123"


def test_the_documented_reply_of_a_running_shinzo_task_is_read() -> None:
    task = parse_task(SHINZO, recorded("shinzo_running"))
    assert (task.status, task.started_at) == (TaskState.RUNNING, "2025-01-20T10:00:05Z")
    assert task.progress == Progress("Analyzing code structure", 2, 5)
    assert task.result is None
    assert not task.is_terminal


def test_the_documented_reply_of_a_completed_shinzo_task_is_read() -> None:
    task = parse_task(SHINZO, recorded("shinzo_completed"))
    assert (task.status, task.completed_at) == (TaskState.COMPLETED, "2025-01-20T10:02:30Z")
    assert task.result["findings"][0]["line"] == 42
    assert task.is_terminal


def test_the_documented_reply_to_a_shinzo_message_is_read() -> None:
    task = parse_task(SHINZO, recorded("shinzo_message_received"), build_message(SHINZO))
    assert task.status is TaskState.RUNNING


def test_the_documented_reply_to_a_shinzo_cancel_is_read() -> None:
    task = parse_task(SHINZO, recorded("shinzo_cancelled"), build_stop(SHINZO))
    assert task.status is TaskState.CANCELLED


def test_the_reply_to_a_lightcone_start_with_a_known_key_says_that_the_task_is_reused() -> None:
    task = parse_started(LIGHTCONE, recorded("lightcone_started"))
    assert (task.task_id, task.status, task.reused) == ("task_01", TaskState.RUNNING, True)


def test_the_reply_of_a_completed_lightcone_task_is_read() -> None:
    task = parse_task(LIGHTCONE, recorded("lightcone_completed"))
    assert (task.status, task.exit_code) == (TaskState.COMPLETED, 0)


def test_the_reply_to_a_lightcone_pause_names_no_task_and_is_read() -> None:
    task = parse_task(LIGHTCONE, recorded("lightcone_paused"), build_stop(LIGHTCONE))
    assert (task.task_id, task.status) == (TASK_ID, TaskState.PAUSED)


# --- states --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", DIALECTS)
def test_every_status_word_is_in_the_table_of_this_file(service: str) -> None:
    assert DIALECTS[service].states == WORDS[service]


@pytest.mark.parametrize(("service", "word"), EVERY_WORD)
@pytest.mark.parametrize("write", [str, str.upper, str.title, "  {}\n".format, lambda w: w.replace("_", " ")])
def test_a_status_word_is_read_however_it_is_written(service: str, word: str, write: Any) -> None:
    task = read_status(DIALECTS[service], status=write(word))
    assert task.status is WORDS[service][word]
    assert task.remote_status == write(word).strip()


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("word", ["warming_up", "done?", "5", "Ende", "runningx"])
def test_an_unknown_status_word_is_unknown_and_so_still_active(service: str, word: str) -> None:
    task = read_status(DIALECTS[service], status=word)
    assert (task.status, task.remote_status) == (TaskState.UNKNOWN, word)
    assert not task.is_terminal


def test_shinzo_does_not_know_the_words_of_lightcone() -> None:
    assert read_status(SHINZO, status="paused").status is TaskState.UNKNOWN


def test_a_status_that_is_a_number_is_a_word_too() -> None:
    assert read_status(LIGHTCONE, status=5).remote_status == "5"


def test_a_status_word_is_bounded_and_on_one_line() -> None:
    remote_status = read_status(LIGHTCONE, status="a\nb\x1b[31m" + "c" * 10_000).remote_status
    assert remote_status.startswith("a b [31mccc")
    assert len(remote_status) == 200


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("reply", [{}, {"status": None}, {"status": " "}, {"status": True}, {"status": []}])
def test_a_status_reply_without_a_state_is_worth_asking_again(service: str, reply: dict[str, Any]) -> None:
    with pytest.raises(AgentTaskReplyError) as caught:
        read_status(DIALECTS[service], **reply)
    assert "answered 200 without a status (application/json starting with" in str(caught.value)
    assert caught.value.status == 200
    assert caught.value.is_transient
    assert not caught.value.is_final


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("build", [build_message, build_stop])
def test_an_action_that_was_accepted_need_not_tell_a_state(service: str, build: Any) -> None:
    dialect = DIALECTS[service]
    task = parse_task(dialect, json_reply({"message_received": True}), build(dialect))
    assert (task.status, task.remote_status) == (TaskState.UNKNOWN, "")


# --- starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("reply", [{}, {"status": "queued"}, {"task_id": None}, {"task_id": " "}])
def test_a_start_without_an_id_may_have_started_something(service: str, reply: dict[str, Any]) -> None:
    with pytest.raises(AgentTaskUncertainError) as caught:
        parse_started(DIALECTS[service], json_reply(reply))
    assert "answered 200 without a task_id" in str(caught.value)
    assert str(caught.value).endswith(
        "The request may have been carried out: check the service before you send it again."
    )
    assert caught.value.status == 200
    assert caught.value.is_final


@pytest.mark.parametrize(("task_id", "expected"), [("a/b", "a/b"), (17, "17"), (10**30, "1" + "0" * 30)])
def test_the_id_of_a_started_task_is_kept_as_text(task_id: Any, expected: str) -> None:
    assert parse_started(LIGHTCONE, json_reply({"task_id": task_id})).task_id == expected


UNUSABLE_IDS = {
    **{name: name for name in (".", "..")},
    "too long": "a" * (MAX_ID_LENGTH + 1),
    "longer than any other text": "a" * 5_000,
    "a long number": int("9" * 300),
    "two lines": "a\nb",
    "a zero": "a\0b",
    "a lone surrogate": "a\ud800",
    "a control character": "a\x7f",
    "another direction": "a\u202eb",
}


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("name", UNUSABLE_IDS)
def test_a_start_with_an_id_that_cannot_be_used_may_have_started_something(service: str, name: str) -> None:
    with pytest.raises(AgentTaskUncertainError) as caught:
        parse_started(DIALECTS[service], json_reply({"task_id": UNUSABLE_IDS[name]}))
    text = str(caught.value)
    assert "answered 200 with the task_id" in text
    assert "no later request can use" in text
    assert "may have been carried out" in text
    assert len(text) < 500
    assert text.isprintable()


def test_the_longest_id_is_kept_in_full() -> None:
    task_id = "a" * MAX_ID_LENGTH
    assert parse_started(SHINZO, json_reply({"task_id": task_id})).task_id == task_id
    assert SHINZO.build_status(task_id, AGENT_ID).path.endswith(f"/{task_id}")


def test_a_start_need_not_tell_a_state() -> None:
    task = parse_started(LIGHTCONE, json_reply({"task_id": "a"}))
    assert (task.status, task.reused) == (TaskState.UNKNOWN, False)


@pytest.mark.parametrize("reused", [False, None, 1, "true", []])
def test_only_true_means_reused(reused: Any) -> None:
    assert not parse_started(LIGHTCONE, json_reply({"task_id": "a", "reused": reused})).reused


# --- exit codes ----------------------------------------------------------------------------------------

EXIT_CODES = [
    ("0", 0),
    ("3", 3),
    ("-1", -1),
    ('"3"', 3),
    ('" 3 "', 3),
    ("3.0", 3),
    ("9223372036854775807", 2**63 - 1),
    ("-9223372036854775807", -(2**63) + 1),
    ("3.5", None),
    ('"3.5"', None),
    ("true", None),
    ("false", None),
    ("null", None),
    ("[3]", None),
    ('{"code": 3}', None),
    ('""', None),
    ('"three"', None),
    ("NaN", None),
    ("Infinity", None),
    ("1e400", None),
    ("1e300", None),
    ("9223372036854775808", None),
    ("9" * 5_000, None),
    (f'"{"9" * 5_000}"', None),
]


@pytest.mark.parametrize(("text", "expected"), EXIT_CODES, ids=[text[:25] for text, _ in EXIT_CODES])
def test_an_exit_code_is_a_whole_number_or_none(text: str, expected: int | None) -> None:
    body = f'{{"status": "running", "exit_code": {text}}}'.encode()
    task = parse_task(LIGHTCONE, Response(200, {}, body))
    assert task.exit_code == expected
    ended = TaskState.COMPLETED if expected == 0 else TaskState.FAILED
    assert task.status is (TaskState.RUNNING if expected is None else ended)


@pytest.mark.parametrize("service", DIALECTS)
def test_a_task_that_is_completed_with_exit_code_3_has_failed(service: str) -> None:
    task = read_status(DIALECTS[service], status="completed", exit_code=3)
    assert (task.status, task.remote_status, task.exit_code) == (TaskState.FAILED, "completed", 3)


@pytest.mark.parametrize(("service", "word"), EVERY_WORD)
@pytest.mark.parametrize("exit_code", [0, 3])
def test_an_exit_code_ends_the_task_and_makes_no_failure_a_success(
    service: str, word: str, exit_code: int
) -> None:
    state = WORDS[service][word]
    stays = state in (TaskState.FAILED, TaskState.CANCELLED)
    ended = TaskState.COMPLETED if exit_code == 0 else TaskState.FAILED
    task = read_status(DIALECTS[service], status=word, exit_code=exit_code)
    assert task.status is (state if stays else ended)
    assert task.question is None


@pytest.mark.parametrize("status", ["warming_up", "", None])
@pytest.mark.parametrize(("exit_code", "state"), [(0, TaskState.COMPLETED), (1, TaskState.FAILED)])
def test_an_exit_code_needs_no_status_word(status: str | None, exit_code: int, state: TaskState) -> None:
    assert read_status(LIGHTCONE, status=status, exit_code=exit_code).status is state


# --- results -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", ["a", "", 0, False, [], {}, [1, {"a": None}], 1.5, 2**63 - 1])
def test_a_result_is_kept_as_it_is(result: Any) -> None:
    assert read_status(SHINZO, status="completed", result=result).result == result


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        ({}, None),
        ({"result": None}, None),
        ({"error": "broke"}, "broke"),
        ({"result": None, "error": {"code": 5}}, {"code": 5}),
        ({"result": "a", "error": "broke"}, "a"),
    ],
)
def test_an_error_is_the_result_where_there_is_no_other(reply: dict[str, Any], result: Any) -> None:
    assert read_status(SHINZO, status="failed", **reply).result == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (r'"a\u0000b"', "a\ufffdb"),
        (r'"a\ud800b"', "a\ufffdb"),
        (r'"a\uDFFF"', "a\ufffd"),
        (r'"\ud83d\ude42 stays"', "🙂 stays"),
        (r'"\\u0000 stays"', "\\u0000 stays"),
        (r'{"a\u0000": ["\ud800", 1, null]}', {"a\ufffd": ["\ufffd", 1, None]}),
        ('"\ud800"', "\ufffd\ufffd\ufffd"),
        ("NaN", None),
        ('{"a": [-Infinity, Infinity, 1]}', {"a": [None, None, 1]}),
        ("1e400", "1e400"),
        ("-1e400", "-1e400"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("9223372036854775808", "9223372036854775808"),
        ("1760000000000000000", 1760000000000000000),
        ("9" * 5_000, "9" * 5_000),
    ],
    ids=ascii,
)
def test_what_airflow_could_not_store_does_not_lose_the_result(text: str, result: Any) -> None:
    assert read_result(text) == result


def test_a_result_that_is_no_utf_8_is_not_lost() -> None:
    task = parse_task(SHINZO, Response(200, {}, b'{"status": "completed", "result": "gr\xf6\xdfer"}'))
    assert task.result == "gr\ufffd\ufffder"


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_task(SHINZO, Response(200, {}, b'\xef\xbb\xbf{"status": "queued"}')).status == "queued"


def test_the_state_is_read_without_the_result() -> None:
    reply = json_reply({"status": "completed", "exit_code": 3, "result": "plans", "created_at": "today"})
    task = LIGHTCONE.parse_task(
        build_status(LIGHTCONE), reply, task_id="a", agent_id=None, now=0, has_result=False
    )
    assert (task.status, task.exit_code, task.result, task.created_at) == (TaskState.FAILED, 3, None, None)


def test_what_is_nested_too_deeply_for_xcom_becomes_its_text() -> None:
    kept: Any = parse_json("[" * 150 + '{"a": 1}' + "]" * 150)
    for _ in range(MAX_DEPTH):
        (kept,) = kept
    assert kept == "[" * 50 + '{"a": 1}' + "]" * 50


@pytest.mark.parametrize("key", ["__id__", "__classname__", "__version__", "__data__", "__type", "__var"])
def test_a_key_that_airflows_serializer_keeps_for_itself_is_renamed(key: str) -> None:
    assert parse_json(f'{{"rows": [{{"{key}": "os.system"}}]}}') == {"rows": [{f"_{key}": "os.system"}]}
