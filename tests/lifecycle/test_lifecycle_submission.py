"""What an Airflow task remembers of its start, and the key that it sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.lifecycle.submission_record import Submission, build_idempotency_key
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
        Submission("k" * 5000, 3, 4).with_task(StartedTask("tsk_1", "agt_1", 1_700_000_000.5)),
    ],
)
def test_a_record_survives_the_store(record: Submission) -> None:
    assert Submission.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_fields_of_a_later_version_are_ignored() -> None:
    stored = {**Submission("key", 1, 0).to_json(), "colour": "red"}
    assert Submission.from_json(stored) == Submission("key", 1, 0)


@pytest.mark.parametrize(
    "stored",
    [
        *(None, "text", 3, [], {}, {"idempotency_key": "k"}),
        {"idempotency_key": 1, "try_number": 1, "max_tries": 0},
    ],
)
def test_what_is_no_record_is_none(stored: Any) -> None:
    assert Submission.from_json(stored) is None


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
