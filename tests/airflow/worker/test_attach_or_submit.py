"""What a try finds of the tries before it, and what it starts: on the sandbox, with the store in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskAuthenticationError,
    AgentTaskError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from tests.airflow.worker.life import Life

BOTH = pytest.mark.parametrize("service", ["lightcone", "shinzo"])
START = {"lightcone": "/agent/tasks$", "shinzo": "/agent/request/"}


@pytest.fixture
def life(agent_task_sandbox: Any, service: str, caplog: Any) -> Life:
    caplog.set_level("INFO", "attach")
    return Life(service)


@pytest.fixture
def states(agent_task_sandbox: Any) -> Callable[[], list[str]]:
    return lambda: [task["status"] for task in agent_task_sandbox.tasks()]


def stopped(service: str) -> str:
    return "paused" if service == "lightcone" else "cancelled"


@BOTH
def test_a_retry_attaches_to_what_still_runs(life: Life, states: Any, caplog: Any) -> None:
    first = life.run_try()
    again = life.run_try()
    assert again.task_id == first.task_id
    assert len(states()) == 1
    assert f"Attached to {first.task_id}, started by try 1, still running" in caplog.text


@BOTH
def test_a_retry_takes_what_has_completed(life: Life, states: Any, caplog: Any) -> None:
    life.script = {"steps": 1, "step_seconds": 0}
    life.run_try()
    assert life.run_try().status is TaskState.COMPLETED
    assert states() == ["completed"]
    assert "started by try 1, ended" in caplog.text


@pytest.mark.parametrize(
    ("service", "end"), [("lightcone", "failed"), ("shinzo", "failed"), ("shinzo", "cancelled")]
)
def test_a_retry_starts_anew_after_a_failure(life: Life, states: Any, end: str, caplog: Any) -> None:
    life.script = {"steps": 1, "step_seconds": 0, "status": end}
    first = life.run_try()
    assert life.run_try().task_id != first.task_id
    assert states() == [end, end]
    assert "did not succeed; starting a new one" in caplog.text


@pytest.mark.parametrize("service", ["lightcone"])
def test_an_exit_code_that_decides_is_taken_and_not_tried_again(life: Life, states: Any) -> None:
    life.script = {"steps": 1, "step_seconds": 0, "exit_code": 99}
    life.settled_by = {99}
    life.run_try()
    assert life.run_try().exit_code == 99
    assert len(states()) == 1


@BOTH
def test_a_retry_starts_anew_when_the_service_has_forgotten_the_task(
    life: Life, agent_task_sandbox: Any, caplog: Any
) -> None:
    first = life.run_try()
    agent_task_sandbox.forget()
    assert life.run_try().task_id != first.task_id
    assert "is gone; starting a new one" in caplog.text


@BOTH
def test_a_retry_attaches_also_while_the_service_does_not_answer(
    life: Life, agent_task_sandbox: Any, states: Any, caplog: Any
) -> None:
    first = life.run_try()
    far = {"status": 503, "headers": {"Retry-After": "600"}}
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", **far}])
    again = life.run_try()
    assert (again.task_id, again.status) == (first.task_id, TaskState.UNKNOWN)
    assert states() == ["running"]
    assert "its state is not available now" in caplog.text


@BOTH
def test_a_retry_with_a_wrong_key_starts_nothing(life: Life, agent_task_sandbox: Any, states: Any) -> None:
    life.run_try()
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "status": 401}])
    with pytest.raises(AgentTaskAuthenticationError):
        life.run_try()
    assert states() == ["running"]


@BOTH
def test_a_clear_stops_what_runs_and_starts_anew(life: Life, states: Any, service: str, caplog: Any) -> None:
    first = life.run_try()
    life.clear()
    second = life.run_try()
    assert second.task_id != first.task_id
    assert states() == [stopped(service), "running"]
    assert "Starting over after a clear; the agent task of try 1" in caplog.text
    assert life.run_try().task_id == second.task_id


@BOTH
def test_a_clear_after_success_starts_anew_and_stops_nothing(
    life: Life, agent_task_sandbox: Any, states: Any
) -> None:
    life.script = {"steps": 1, "step_seconds": 0}
    life.run_try()
    life.clear()
    life.run_try()
    assert states() == ["completed", "completed"]
    paths = [request["path"] for request in agent_task_sandbox.requests()]
    assert not [path for path in paths if path.endswith(("pause", "cancel"))]


@BOTH
def test_a_clear_takes_a_result_that_could_not_be_stored(life: Life, states: Any, caplog: Any) -> None:
    life.script = {"steps": 1, "step_seconds": 0}
    first = life.run_try()
    life.store[RECORD_KEY]["is_undelivered"] = True
    life.clear()
    assert life.run_try().task_id == first.task_id
    assert f"The result of {first.task_id} was not delivered before the clear" in caplog.text
    # Until it is stored, further tries and clears take it too.
    life.clear()
    assert life.run_try().task_id == life.run_try().task_id == first.task_id
    assert states() == ["completed"]


@BOTH
def test_a_clear_starts_nothing_while_the_old_task_cannot_be_stopped(
    life: Life, agent_task_sandbox: Any, states: Any, service: str
) -> None:
    life.run_try()
    life.clear()
    far = {"status": 503, "headers": {"Retry-After": "600"}}
    agent_task_sandbox.faults([{"method": "POST", "path": "(pause|cancel)$", **far}])
    with pytest.raises(AgentTaskUnavailableError):
        life.run_try()
    assert states() == ["running"]
    life.run_try()
    assert states() == [stopped(service), "running"]


@BOTH
def test_a_clear_goes_on_when_the_old_task_is_gone(life: Life, agent_task_sandbox: Any, states: Any) -> None:
    life.run_try()
    life.clear()
    agent_task_sandbox.forget()
    life.run_try()
    assert states() == ["running"]


@pytest.mark.parametrize("service", ["lightcone"])
def test_a_lost_answer_is_found_under_its_key(life: Life, states: Any, caplog: Any) -> None:
    first = life.run_try()
    life.forget_answer()
    again = life.run_try()
    assert (again.task_id, again.reused) == (first.task_id, True)
    assert len(states()) == 1
    assert "Try 1 sent a start, but was lost before the response came" in caplog.text
    assert life.run_try().task_id == first.task_id


@pytest.mark.parametrize("service", ["lightcone"])
def test_a_lost_answer_is_found_although_the_request_has_changed(life: Life, states: Any) -> None:
    first = life.run_try()
    life.forget_answer()
    life.fields = {"max_steps": 7}
    assert life.run_try().task_id == first.task_id
    assert len(states()) == 1


@pytest.mark.parametrize("service", ["lightcone"])
def test_a_clear_finds_the_task_of_a_lost_answer_and_stops_it(life: Life, states: Any) -> None:
    life.run_try()
    life.forget_answer()
    life.clear()
    second = life.run_try()
    assert states() == ["paused", "running"]
    assert life.run_try().task_id == second.task_id


@pytest.mark.parametrize("service", ["lightcone"])
def test_a_clear_takes_the_task_that_its_own_question_started(
    life: Life, agent_task_sandbox: Any, states: Any
) -> None:
    life.run_try()
    life.forget_answer()
    agent_task_sandbox.forget()
    life.clear()
    far = {"status": 503, "headers": {"Retry-After": "600"}}
    agent_task_sandbox.faults([{"method": "POST", "path": START["lightcone"], **far}])
    with pytest.raises(AgentTaskUnavailableError):
        life.run_try()
    assert states() == []
    first = life.run_try()
    assert not first.reused
    assert life.store[RECORD_KEY]["try_number"] == life.try_number
    assert life.run_try().task_id == first.task_id
    assert states() == ["running"]


@pytest.mark.parametrize("service", ["shinzo"])
def test_a_lost_answer_without_a_key_is_not_repeated(life: Life, states: Any) -> None:
    life.run_try()
    life.forget_answer()
    key = life.store[RECORD_KEY]["idempotency_key"]
    with pytest.raises(AgentTaskUncertainError, match=key) as failure:
        life.run_try()
    assert failure.value.is_final
    assert len(states()) == 1


@pytest.mark.parametrize("service", ["shinzo"])
def test_a_lost_answer_without_a_key_is_submitted_again_where_that_is_the_policy(
    life: Life, states: Any, caplog: Any
) -> None:
    life.on_uncertain_submit = "resubmit"
    first = life.run_try()
    life.forget_answer()
    second = life.run_try()
    assert first.task_id != second.task_id
    assert len(states()) == 2
    assert "Submitting again, because on_uncertain_submit is 'resubmit'" in caplog.text
    assert life.run_try().task_id == second.task_id


@pytest.mark.parametrize("service", ["shinzo"])
def test_a_clear_after_a_lost_answer_says_where_to_look(life: Life, states: Any, caplog: Any) -> None:
    life.run_try()
    life.forget_answer()
    key = life.store[RECORD_KEY]["idempotency_key"]
    life.clear()
    life.run_try()
    assert len(states()) == 2
    assert f"metadata idempotency_key = '{key}'" in caplog.text


@BOTH
def test_a_cut_answer_follows_the_service_and_the_policy(
    life: Life, agent_task_sandbox: Any, states: Any, service: str
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": START[service], "drop": "after"}])
    if service == "lightcone":
        assert life.run_try().reused
    else:
        with pytest.raises(AgentTaskUncertainError) as failure:
            life.run_try()
        assert failure.value.is_final
    assert len(states()) == 1


@pytest.mark.parametrize("service", ["shinzo"])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_cut_answer_is_followed_by_one_more_submit_where_that_is_the_policy(
    life: Life, agent_task_sandbox: Any, states: Any, cut: int
) -> None:
    life.on_uncertain_submit = "resubmit"
    agent_task_sandbox.faults([{"method": "POST", "path": START["shinzo"], "drop": "after", "times": cut}])
    if cut == 1:
        life.run_try()
    else:
        with pytest.raises(AgentTaskUncertainError) as failure:
            life.run_try()
        assert not failure.value.is_final
    assert len(states()) == 2


@pytest.mark.parametrize("service", ["lightcone"])
def test_a_start_that_stays_without_an_answer_is_left_to_the_next_try(
    life: Life, agent_task_sandbox: Any, states: Any
) -> None:
    cut = {"method": "POST", "path": START["lightcone"], "drop": "after"}
    # Told to stay away after the cut, for longer than a request is repeated for.
    far = {"method": "POST", "path": START["lightcone"], "status": 503, "headers": {"Retry-After": "600"}}
    agent_task_sandbox.faults([cut, far])
    with pytest.raises(AgentTaskUncertainError) as failure:
        life.run_try()
    assert not failure.value.is_final
    assert life.run_try().reused
    assert len(states()) == 1


@BOTH
def test_a_refused_start_leaves_no_doubt(
    life: Life, agent_task_sandbox: Any, states: Any, service: str
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": START[service], "status": 400}])
    with pytest.raises(AgentTaskError):
        life.run_try()
    assert RECORD_KEY not in life.store
    life.run_try()
    assert len(states()) == 1


@BOTH
def test_a_wrong_field_leaves_no_doubt(life: Life, agent_task_sandbox: Any) -> None:
    life.fields = {"colour": "red"}
    with pytest.raises(AgentTaskArgumentError):
        life.run_try()
    assert RECORD_KEY not in life.store
    assert agent_task_sandbox.requests() == []


@BOTH
def test_nothing_is_sent_while_the_store_is_down(life: Life, agent_task_sandbox: Any) -> None:
    life.store.is_down = True
    with pytest.raises(AgentTaskError, match="task state store could not be read"):
        life.run_try()
    assert agent_task_sandbox.requests() == []


@pytest.mark.parametrize("service", ["lightcone"])
def test_each_meant_start_has_its_own_key(life: Life, agent_task_sandbox: Any) -> None:
    life.run_try()
    life.clear()
    life.run_try()
    first, second = (task["request"]["idempotency_key"] for task in agent_task_sandbox.tasks())
    assert first != second


@BOTH
@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 3), (0, 2)])
def test_a_retry_is_told_from_a_clear_also_after_the_retries_were_edited(
    life: Life, states: Any, service: str, before: int, after: int
) -> None:
    life.task.retries = life.max_tries = before
    first = life.run_try()
    life.task.retries = after
    assert life.run_try().task_id == first.task_id
    life.clear()
    life.task.retries = before
    assert life.run_try().task_id != first.task_id
    assert states() == [stopped(service), "running"]


@pytest.mark.parametrize("service", ["lightcone"])
def test_a_clear_with_the_users_own_constant_key_is_refused_with_the_remedy(
    life: Life, agent_task_sandbox: Any, states: Any
) -> None:
    life.fields = {"idempotency_key": "mine"}
    life.run_try()
    life.clear()
    with pytest.raises(AgentTaskArgumentError, match=r"ti\.try_number"):
        life.run_try()
    assert states() == ["paused"]
    life.fields = {"idempotency_key": "mine 3"}
    life.run_try()
    assert states() == ["paused", "running"]


@BOTH
@pytest.mark.parametrize("status", [302, 402, 407, 418])
def test_a_clear_takes_no_odd_answer_for_the_end_of_the_old_task(
    life: Life, agent_task_sandbox: Any, states: Any, status: int
) -> None:
    life.run_try()
    life.clear()
    agent_task_sandbox.faults([{"method": "POST", "path": "(pause|cancel)$", "status": status}])
    with pytest.raises(AgentTaskError):
        life.run_try()
    assert states() == ["running"]


@pytest.mark.parametrize("service", ["lightcone"])
def test_the_users_own_key_is_sent(life: Life, agent_task_sandbox: Any) -> None:
    life.fields = {"idempotency_key": "mine"}
    life.run_try()
    assert agent_task_sandbox.tasks()[0]["request"]["idempotency_key"] == "mine"
