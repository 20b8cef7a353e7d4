"""What an Airflow task remembers of its start, and the key that it sends."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskError
from airflow_agent_tasks.lifecycle.question_log import Question, Reply
from airflow_agent_tasks.lifecycle.submission_record import CLOSED_PREFIX, Submission, build_idempotency_key
from tests.service_samples import LIGHTCONE, SHINZO

OWNER = ("dag", "run", "task", -1, 1)
REQUEST = {"instruction": "Look.", "max_steps": 3}


@pytest.mark.parametrize(
    "record",
    [
        Submission("key", 1, 0),
        Submission("key", 2, 1, conn_id="c", on_kill_policy="stop").with_task(
            StartedTask("tsk_1", None, 1_700_000_000.5)
        ),
        Submission("key", 1, 0, is_called_back=True),
        Submission("k" * 5000, 3, 4).with_task(StartedTask("tsk_1", "agt_1", 1_700_000_000.5)),
    ],
)
def test_a_record_survives_the_store(record: Submission) -> None:
    assert Submission.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_fields_of_a_later_version_are_ignored() -> None:
    stored = {**Submission("key", 1, 0).to_json(), "colour": "red"}
    assert Submission.from_json(stored) == Submission("key", 1, 0)


#: Values that are wrong for every field.
DAMAGED: list[Any] = [
    *(None, True, -1, 2**70, 1e300, math.nan, math.inf, "", " ", "\0", [], [None], {}, {"a": 1}),
    [[[]]],
    "9" * 5000,
]


@pytest.mark.parametrize("stored", [None, "text", 3, [], {}, *({"other": value} for value in DAMAGED)])
@pytest.mark.parametrize("task_id", [..., "", "  ", [], {}, True, 1.5])
def test_what_names_no_agent_task_is_refused_with_a_sentence(stored: Any, task_id: Any) -> None:
    if task_id is not ...:
        # A key alone is no proof that nothing was started.
        stored = {**(stored if isinstance(stored, dict) else {}), "idempotency_key": "k", "task_id": task_id}
    with pytest.raises(AgentTaskError, match="Search the service for it, and stop it") as caught:
        Submission.from_json(stored)
    assert caught.value.is_final


@pytest.mark.parametrize("name", [field.name for field in fields(Submission) if field.name != "task_id"])
@pytest.mark.parametrize("value", DAMAGED, ids=repr)
def test_where_there_is_a_task_id_no_other_field_hides_the_agent_task(name: str, value: Any) -> None:
    whole = Submission("key", 1, 0).with_task(StartedTask("tsk_1", "agt_1", 1_700_000_000.5)).to_json()
    for stored in ({**whole, name: value}, {key: whole[key] for key in whole if key != name}):
        record = Submission.from_json(stored)
        assert record.started
        assert record.started.agent_task_id == "tsk_1"
        # What is read can be used and stored.
        # Compared as text, because NaN, which a result may be, does not equal itself.
        assert repr(Submission.from_json(json.loads(json.dumps(record.to_json())))) == repr(record)
        assert 0 <= record.submitted_at < 1e12


@pytest.mark.parametrize("name", [field.name for field in fields(Question)])
@pytest.mark.parametrize("value", DAMAGED, ids=repr)
def test_a_damaged_question_raises_nothing_of_python(name: str, value: Any) -> None:
    reply = Reply("Send", "Yes.", {"id": "7", "name": "Ada"}, "2026-01-01")
    question = Question(1, "Sure?", "f", asked_at=1.0, reply=reply).to_json()
    damaged = [{**question, name: value}, {**question, "reply": {**question["reply"], "answered_by": value}}]
    for stored in damaged:
        record = Submission.from_json({"task_id": "tsk_1", "questions": [stored]})
        questions = record.questions
        questions.list_answers()
        assert questions.seconds_waited(0.0, 1e9) >= 0
        assert questions.settle(AgentTask("shinzo", "tsk_1", TaskState.RUNNING), 1e9)


@pytest.mark.parametrize("value", [*DAMAGED[:1], *DAMAGED[2:], "true", 1, ...], ids=repr)
def test_a_record_that_does_not_say_so_is_of_a_task_that_polls(value: Any) -> None:
    stored = Submission("key", 1, 0, is_called_back=True).to_json()
    if value is ...:
        del stored["is_called_back"]
    else:
        stored["is_called_back"] = value
    assert not Submission.from_json(stored).is_called_back


def test_an_id_that_is_a_number_is_one() -> None:
    assert Submission.from_json({"task_id": 5}).task_id == "5"


def test_the_same_start_has_the_same_key() -> None:
    reordered = dict(reversed(REQUEST.items()))
    assert build_idempotency_key(OWNER, REQUEST) == build_idempotency_key(OWNER, reordered)


@pytest.mark.parametrize("place", range(len(OWNER)))
def test_each_part_of_the_owner_makes_another_key(place: int) -> None:
    other = [*OWNER]
    other[place] = "other"
    assert build_idempotency_key(other, REQUEST) != build_idempotency_key(OWNER, REQUEST)


@pytest.mark.parametrize("request_", [{}, {"instruction": "Look"}, {**REQUEST, "max_steps": 4}])
def test_another_request_makes_another_key(request_: dict[str, Any]) -> None:
    assert build_idempotency_key(OWNER, request_) != build_idempotency_key(OWNER, REQUEST)


def test_parts_that_run_together_make_other_keys() -> None:
    assert build_idempotency_key(("a,b", "c"), {}) != build_idempotency_key(("a", "b,c"), {})


def test_lightcone_takes_the_key_as_a_start_field() -> None:
    fields = LIGHTCONE.put_idempotency_key({"instruction": "Look."}, "key")
    assert LIGHTCONE.build_start(fields).json == {"instruction": "Look.", "idempotency_key": "key"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, {"idempotency_key": "key"}),
        ({"a": 1}, {"idempotency_key": "key", "a": 1}),
        ({"idempotency_key": "mine"}, {"idempotency_key": "mine"}),
    ],
)
def test_shinzo_gets_the_key_among_the_users_metadata(given: Any, sent: Any) -> None:
    fields = SHINZO.put_idempotency_key({"message": "Look.", "metadata": given}, "key")
    body = SHINZO.build_start(fields, agent_id="agt_1").json
    assert body is not None
    assert body["metadata"] == sent


def test_metadata_of_the_wrong_kind_is_still_refused() -> None:
    fields = SHINZO.put_idempotency_key({"message": "Look.", "metadata": "red"}, "key")
    with pytest.raises(AgentTaskArgumentError, match="metadata"):
        SHINZO.build_start(fields, agent_id="agt_1")


def test_a_service_that_knows_no_key_gets_none() -> None:
    fields = super(type(SHINZO), SHINZO).put_idempotency_key({"message": "Look."}, "key")
    assert fields == {"message": "Look."}


def test_a_closed_record_keeps_only_what_tells_which_agent_task_it_was() -> None:
    started = StartedTask("tsk_1", "agt_1", 1_700_000_000.5)
    task = AgentTask("shinzo", "tsk_1", TaskState.COMPLETED, question="Sure?", result={"is_closed": False})
    closed = Submission.build_closed(started, task, "shinzo_default")
    stored = json.dumps(closed.to_json())
    assert stored.startswith(CLOSED_PREFIX)
    assert json.loads(stored) == {
        "is_closed": True,
        "task_id": "tsk_1",
        "agent_id": "agt_1",
        "submitted_at": 1_700_000_000.5,
        "conn_id": "shinzo_default",
        "service": "shinzo",
        "status": "completed",
        "max_tries": -1,
    }
    assert Submission.from_json(json.loads(stored)) == closed
