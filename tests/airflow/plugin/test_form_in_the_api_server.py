"""What the plugin in the API server does with forms: for whom, and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from airflow.jobs.job import Job
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from itsdangerous import TimestampSigner
from pytest_mock import MockerFixture
from sqlalchemy import delete, update

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.airflow_compat import (
    early_answer_delay,
    required_action,
    resume_delay,
    worker_request_signature,
)
from airflow_agent_tasks.airflow_compat.open_forms import OpenForm, TaskKey, read_open_form
from airflow_agent_tasks.airflow_compat.required_action import RequiredAction
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow_agent_tasks.errors import AgentTaskCancelledError
from airflow_agent_tasks.lifecycle.question_form import Asking
from airflow_agent_tasks.plugin import answer_check, delay_early_answers
from airflow_agent_tasks.plugin.answer_check import find_delay

KEY = "a-key-of-the-tests"
EXECUTORS = {
    "local": "airflow.executors.local_executor.LocalExecutor",
    "celery": "airflow.providers.celery.executors.celery_executor.CeleryExecutor",
    "kubernetes": "airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor",
}
#: The moment at which the tests of the delay look: how fast they run makes no difference.
NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)
ANSWER = {"chosen_options": ["Send"], "params_input": {"reply": "One."}}


def ask(number: int, question: str) -> Asking:
    task = AgentTask("shinzo", "tsk_1", TaskState.AWAITING_INPUT, question=question)
    return Asking(number, f"{number}-x", task, "Shinzo", "Look.", "http://airflow.example/log")


@pytest.fixture
def ti(run_dag: Any, api_server: str) -> Any:
    """A task instance that runs, as far as Airflow's database tells."""
    run = run_dag("@task\ndef other():\n    return 1\n\nother()")
    found = run._task_instance("other", -1)
    set_state(found, "running")
    return found


@pytest.fixture
def action(ti: Any, mocker: MockerFixture) -> RequiredAction:
    """The form as a worker of Airflow 3.3 handles it: with an order for all."""
    mocker.patch.object(required_action, "AIRFLOW_V_3_4_PLUS", False)
    return RequiredAction(ti, logging.getLogger(__name__))


def set_state(ti: Any, state: str, **values: Any) -> None:
    with create_session() as session:
        session.execute(update(TaskInstance).filter_by(id=ti.id).values(state=state, **values))


def form_of(ti: Any) -> Any:
    with create_session() as session:
        return session.get(HITLDetail, ti.id)


def answer(ti: Any) -> None:
    user = {"id": "7", "name": "Ada"}
    with create_session() as session:
        form = update(HITLDetail).filter_by(ti_id=ti.id)
        session.execute(form.values(responded_at=NOW, responded_by=user, **ANSWER))


def test_each_question_is_shown_with_its_own_text_and_without_an_answer(ti: Any, action: Any) -> None:
    action.show(ask(1, "Which one?"), [])
    assert form_of(ti).subject == "Question 1: Which one?"
    answer(ti)
    action.show(ask(2, "What colour?"), [{"id": "7", "name": "Ada"}])
    form = form_of(ti)
    assert (form.subject, form.response_received) == ("Question 2: What colour?", False)
    assert (form.chosen_options, form.params_input, form.responded_by) == (None, {}, None)
    assert form.params["question_id"]["value"] == "2-x"
    assert form.assigned_users == [{"id": "7", "name": "Ada"}]


def test_the_same_question_shown_again_keeps_its_answer_unless_reopened(ti: Any, action: Any) -> None:
    action.show(ask(1, "Which one?"), [])
    answer(ti)
    # As by the next try, whose page has another address.
    again = replace(ask(1, "Which one?"), log_url="http://airflow.example/log?try_number=2")
    assert action.show(again, []) is True
    assert form_of(ti).params_input == {"reply": "One."}
    assert action.show(replace(again, notice="It was empty."), [], reopen=True) is True
    assert form_of(ti).response_received is False
    assert form_of(ti).body.startswith("It was empty.")


def test_an_answer_is_read_and_an_unanswered_form_is_closed(ti: Any, action: Any) -> None:
    assert action.read(str(ti.id)) is None
    assert action.close() is None
    action.show(ask(1, "Which one?"), [])
    assert action.read(str(ti.id)) is None
    assert form_of(ti).response_received is False
    assert action.close() is None
    assert (form_of(ti).response_received, form_of(ti).responded_by) == (True, None)


def test_a_form_that_was_answered_stays_as_it_is_when_closed(ti: Any, action: Any) -> None:
    action.show(ask(1, "Which one?"), [])
    answer(ti)
    for response in (action.read(str(ti.id)), action.close()):
        assert response["params_input"] == {"reply": "One."}
        assert response["responded_by_user"] == {"id": "7", "name": "Ada"}


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="earlier, the form goes to the next try")
def test_the_answer_to_an_earlier_try_is_read_in_its_form(ti: Any, action: Any, run_dag: Any) -> None:
    action.show(ask(1, "Which one?"), [])
    answer(ti)
    with create_session() as session:
        next_id = session.get(TaskInstance, ti.id).prepare_db_for_next_try(session).id
    next_try = RequiredAction(SimpleNamespace(id=next_id), logging.getLogger(__name__))
    assert next_try.read("") is None
    assert next_try.read("not an id") is None
    assert next_try.read(str(ti.id))["params_input"] == {"reply": "One."}
    other = run_dag("@task\ndef other():\n    return 1\n\nother()")._task_instance("other", -1)
    set_state(other, "running")
    assert RequiredAction(other, logging.getLogger(__name__)).read(str(ti.id)) is None


@pytest.mark.parametrize("state", ["success", "failed", "awaiting_input", "scheduled", None])
def test_only_a_task_that_runs_may_change_its_form(ti: Any, action: Any, state: Any) -> None:
    set_state(ti, state)
    with pytest.raises(AgentTaskCancelledError, match="someone marked or cleared it"):
        action.show(ask(1, "Which one?"), [])
    assert form_of(ti) is None


def test_an_unknown_task_instance_changes_nothing(api_server: str) -> None:
    unknown = SimpleNamespace(id="00000000-0000-7000-8000-000000000000")
    with pytest.raises(AgentTaskCancelledError):
        RequiredAction(unknown, logging.getLogger(__name__)).read(unknown.id)


def test_a_plugin_that_cannot_be_reached_is_told_once(
    ti: Any, action: Any, caplog: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(required_action, "PATH", "/nothing/there")
    assert action.show(ask(1, "Which one?"), []) is False
    assert action.read(str(ti.id)) is None
    assert caplog.text.count(required_action.WITHOUT_PLUGIN) == 1


def send(api_server: str, **arguments: Any) -> int:
    return requests.post(api_server + required_action.PATH, timeout=20, **arguments).status_code


def test_an_order_that_no_worker_signed_is_refused(ti: Any, api_server: str) -> None:
    order = {"task_instance_id": str(ti.id), "do": "close"}
    token = worker_request_signature.sign(KEY, order)
    good = {"Authorization": f"Bearer {token}"}
    assert send(api_server, json=order, headers=good) == 200
    assert send(api_server, json=order) == 403
    assert send(api_server, json={**order, "do": "show"}, headers=good) == 403
    other = worker_request_signature.sign("another key", order)
    assert send(api_server, json=order, headers={"Authorization": f"Bearer {other}"}) == 403
    for garbage in (b"", b"[]", b"{", b"null", b"[" * 50_000, b"{" + b" " * 1_000_000 + b"}"):
        assert send(api_server, data=garbage, headers=good) == 403
    assert requests.get(api_server + required_action.PATH, timeout=20).status_code == 405


def test_without_a_key_of_its_own_the_server_takes_no_order(
    ti: Any, api_server: str, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AIRFLOW__API__SECRET_KEY", "")
    order = {"task_instance_id": str(ti.id), "do": "close"}
    headers = {"Authorization": f"Bearer {worker_request_signature.sign('', order)}"}
    assert send(api_server, json=order, headers=headers) == 403


@pytest.mark.parametrize(("seconds", "holds"), [(0, True), (-5, True), (60, True), (61, False), (-61, False)])
def test_a_signature_holds_for_a_minute_by_either_clock(
    mocker: MockerFixture, seconds: int, holds: bool
) -> None:
    mocker.patch.object(TimestampSigner, "get_timestamp", return_value=int(NOW.timestamp()))
    token = worker_request_signature.sign(KEY, {"do": "show"})
    mocker.patch.object(worker_request_signature, "time").time.return_value = NOW.timestamp() + seconds
    assert worker_request_signature.is_signed(KEY, {"do": "show"}, token) is holds


def test_another_servers_address_is_asked_where_the_first_does_not_know(
    ti: Any, action: Any, agent_task_sandbox: Any, monkeypatch: Any
) -> None:
    # As where the workers' API server serves nothing else.
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"{agent_task_sandbox.url}/execution/")
    action.show(ask(1, "Which one?"), [])
    assert form_of(ti).subject == "Question 1: Which one?"


@pytest.fixture
def delay(ti: Any, action: Any, mocker: MockerFixture) -> Iterator[Any]:
    """Return a function that tells for how many seconds an answer to the task would be delayed at ``NOW``."""
    mocker.patch.object(resume_delay, "datetime").now.return_value = NOW
    action.show(ask(1, "Which one?"), [])
    yield lambda: early_answer_delay.read_answer_delay(TaskKey(ti.dag_id, ti.run_id, ti.task_id, -1))
    with create_session() as session:
        session.execute(delete(Job))


def park(ti: Any, seconds_ago: float, state: str = "awaiting_input", **values: Any) -> None:
    set_state(ti, state, updated_at=NOW - timedelta(seconds=seconds_ago), **values)


def add_scheduler(seconds_ago: float, state: str = "running") -> int:
    """Add a scheduler with a heartbeat of then, and return its id."""
    beat = NOW - timedelta(seconds=seconds_ago)
    with create_session() as session:
        session.add(job := Job(job_type="SchedulerJob", state=state, latest_heartbeat=beat))
        session.flush()
        return int(job.id)


def test_an_answer_is_delayed_until_the_worker_has_left(ti: Any, delay: Any) -> None:
    assert delay() == 1.0
    # min_heartbeat_interval is 0 here: a second for the worker to leave, one for the scheduler to notice.
    park(ti, 0.5)
    assert delay() == 1.5
    park(ti, 0.5, "deferred")
    assert delay() == 1.5
    park(ti, 2)
    assert delay() == 0
    park(ti, 0.5, "scheduled")
    assert delay() == 0


@pytest.mark.parametrize(
    ("seconds_ago", "state", "seconds"),
    [
        (0, "running", 0),
        (6.5, "running", 0),
        (6.6, "running", 1),
        (29.9, "running", 1),
        (30, "running", 0),
        (8, "failed", 0),
    ],
    ids=["on time", "almost late", "late", "almost dead", "dead", "ended"],
)
def test_an_answer_is_delayed_while_the_scheduler_of_its_worker_is_late(
    ti: Any, delay: Any, seconds_ago: float, state: str, seconds: float
) -> None:
    park(ti, 3, queued_by_job_id=add_scheduler(seconds_ago, state))
    assert delay() == seconds


def test_a_scheduler_that_beat_after_the_worker_had_left_is_not_late(ti: Any, delay: Any) -> None:
    park(ti, 20, queued_by_job_id=add_scheduler(10))
    assert delay() == 0


def test_other_schedulers_delay_no_answer(ti: Any, delay: Any) -> None:
    add_scheduler(20)
    park(ti, 3, queued_by_job_id=add_scheduler(0))
    assert delay() == 0


@pytest.mark.parametrize(
    ("executors", "counts_runs", "accepts"),
    [
        (["local"], False, False),
        (["local"], True, True),
        (["celery"], False, True),
        (["celery", "local"], False, False),
        (["celery", "kubernetes"], True, False),
    ],
)
def test_an_answer_is_delayed_only_where_an_executor_mistakes_a_run_for_the_next(
    airflow_home: Any, mocker: MockerFixture, executors: list[str], counts_runs: bool, accepts: bool
) -> None:
    names = [SimpleNamespace(module_path=EXECUTORS[name]) for name in executors]
    mocker.patch.object(early_answer_delay.ExecutorLoader, "get_executor_names", return_value=names)
    local = SimpleNamespace(_finish_dispatch=None) if counts_runs else SimpleNamespace()
    mocker.patch.object(early_answer_delay, "LocalExecutor", local)
    assert (find_delay() is None) is accepts


def test_answers_to_the_forms_of_others_are_not_delayed(ti: Any, action: Any) -> None:
    key = TaskKey(ti.dag_id, ti.run_id, ti.task_id, -1)
    assert read_open_form(key) is None
    action.show(ask(1, "Which one?"), [])
    assert read_open_form(key) == OpenForm("1-x")
    assert read_open_form(key._replace(map_index=0)) is None
    with create_session() as session:
        session.execute(update(HITLDetail).filter_by(ti_id=ti.id).values(options=["Approve", "Reject"]))
    assert read_open_form(key) is None


def test_a_form_that_was_answered_is_open_no_more(ti: Any, action: Any) -> None:
    action.show(ask(1, "Which one?"), [])
    answer(ti)
    assert read_open_form(TaskKey(ti.dag_id, ti.run_id, ti.task_id, -1)) is None


def test_an_answer_is_delayed_for_a_limited_time(ti: Any, delay: Any, mocker: MockerFixture) -> None:
    assert delay() == 1.0
    key = TaskKey(ti.dag_id, ti.run_id, ti.task_id, -1)
    mocker.patch.object(delay_early_answers, "MAX_DELAY", -1.0)
    asyncio.run(delay_early_answers.delay(key))  # the task still runs
    mocker.patch.object(delay_early_answers, "MAX_DELAY", 600.0)
    seconds = mocker.patch.object(delay_early_answers, "read_answer_delay", side_effect=[0.01, 0.02, 0.0])
    asyncio.run(delay_early_answers.delay(key))
    assert seconds.call_count == 3


@pytest.mark.parametrize(
    ("method", "path", "is_looked_up"),
    [
        ("PATCH", "", True),
        ("GET", "", False),
        ("PATCH", "/more", False),
        ("PATCH", "?map_index=1", True),
        ("OPTIONS", "", False),
    ],
)
def test_every_request_goes_on_to_airflow_and_few_are_looked_up(
    api_server: str, mocker: MockerFixture, method: str, path: str, is_looked_up: bool
) -> None:
    look_up = mocker.spy(answer_check, "read_open_form")
    url = f"{api_server}/api/v2/dags/no/dagRuns/r/taskInstances/t/-1/hitlDetails{path}"
    assert requests.request(method, url, json=ANSWER, timeout=20).status_code in (404, 405)
    assert look_up.call_count == is_looked_up
