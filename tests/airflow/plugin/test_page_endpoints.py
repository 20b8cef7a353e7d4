"""The endpoints behind the page "Agent tasks": what they list, what they do, and for whom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pytest
import requests
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.log import Log
from airflow.utils.session import create_session
from pytest_mock import MockerFixture
from sqlalchemy import select

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.lifecycle.question_log import Question
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.plugin.page_endpoints import _UNEXPLAINED, MAX_BODY, THREADS
from tests.airflow.conftest import finish_stops
from tests.airflow.waiting_rows import STARTS, STARTS_TWO, change_record, put, read, start

LIGHTCONE = (
    "LightconeTaskOperator(task_id='agent', instruction='#sandbox {\"steps\": 100, \"step_seconds\": 10}', "
    "wait_for_completion=False)"
)


class Browser:
    """The requests of one user's browser."""

    def __init__(self, address: str, role: str) -> None:
        self._page = f"{address}/agent-tasks/page"
        user = SimpleAuthManagerUser(username=f"the {role}", role=role)
        self.headers = {"authorization": f"Bearer {get_auth_manager().generate_jwt(user)}"}

    def list(self, **filters: Any) -> list[Any]:
        response = self.get(**filters)
        assert response.status_code == 200, response.text
        return list(response.json()["agent_tasks"])

    def get(self, **filters: Any) -> requests.Response:
        return requests.get(f"{self._page}/agent-tasks", params=filters, headers=self.headers, timeout=30)

    def post(self, target: dict[str, Any], action: str = "", **more: Any) -> requests.Response:
        names = ("dag_id", "run_id", "task_id", "map_index", "agent_task_id")
        return self.send({name: target[name] for name in names} | more, action)

    def send(self, body: Any, action: str = "", **headers: str) -> requests.Response:
        return requests.post(
            f"{self._page}/agent-task{'/' + action if action else ''}",
            data=body if isinstance(body, bytes) else json.dumps(body),
            headers={"content-type": "application/json", **self.headers, **headers},
            timeout=30,
        )


@pytest.fixture
def browser(api_server: str) -> Callable[[str], Browser]:
    return lambda role="admin": Browser(api_server, role)


@pytest.fixture(params=[STARTS, LIGHTCONE], ids=["shinzo", "lightcone"])
def row(run_dag: Any, api_server: str, request: Any) -> Any:
    return start(run_dag, request.param)


@pytest.fixture
def shinzo_row(run_dag: Any, api_server: str) -> Any:
    return start(run_dag)


def test_an_agent_task_is_listed_with_its_airflow_task(
    row: Any, browser: Any, agent_task_sandbox: Any
) -> None:
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    (agent,) = agent_task_sandbox.tasks()
    assert time.time() - 120 < listed.pop("submitted_at") < time.time()
    actions = listed.pop("actions")
    assert listed == {
        "dag_id": row.dag_id,
        "run_id": row.run_id,
        "task_id": "agent",
        "map_index": -1,
        "try_number": 1,
        "state": "deferred",
        "service": agent["service"],
        "conn_id": f"{agent['service']}_default",
        "agent_id": agent["agent_id"] or "",
        "agent_task_id": agent["task_id"],
        "agent_state": listed["agent_state"],
        "step": listed["step"],
        "usage": "",
        "question_url": "",
        "url": listed["url"],
        "record": "",
        "has_details": True,
    }
    assert listed["agent_state"] in ("queued", "running")
    assert listed["url"].endswith(agent["task_id"])
    assert actions == (["message", "stop"] if agent["service"] == "shinzo" else ["message", "pause", "stop"])


def test_the_filters_and_the_pages(run_dag: Any, browser: Any) -> None:
    first = start(run_dag, STARTS_TWO, 0)
    ask = browser("admin")
    of_run = {"dag_id": first.dag_id}
    assert [one["map_index"] for one in ask.list(**of_run)] in ([0, 1], [1, 0])
    assert [one["map_index"] for one in ask.list(**of_run, map_index=1)] == [1]
    assert ask.list(**of_run, task_id="another") == []
    assert ask.list(**of_run, run_id="another") == []
    assert [one["map_index"] for one in ask.list(**of_run, state="deferred")] == [0]
    assert len(ask.list(**of_run, state=["deferred", "success"])) == 2
    assert ask.list(**of_run, agent_state="completed") == []
    assert len(ask.list(**of_run, agent_state=["queued", "running"])) == 2
    assert len(ask.list(**of_run, active=True)) == 2
    assert len(ask.list(text=first.dag_id.upper())) == 2
    (one,) = ask.list(**of_run, limit=1, offset=1)
    assert ask.list(text=one["agent_task_id"]) == [one]
    assert one in ask.list(text="SHINZO_", limit=200)
    assert ask.list(text="%") == []
    assert ask.get(**of_run, limit=1).json()["total"] == 2


def test_a_finished_agent_task_stays_listed_for_the_period(run_dag: Any, browser: Any) -> None:
    script = '#sandbox {"steps": 1, "step_seconds": 0.1}'
    run = run_dag(f"ShinzoTaskOperator(task_id='agent', message={script!r}, deferrable=True)")
    (listed,) = browser("admin").list(dag_id=run.dag_run.dag_id)
    assert (listed["agent_state"], listed["state"], listed["actions"]) == ("completed", "success", [])
    assert browser("admin").list(dag_id=run.dag_run.dag_id, agent_state="completed") == [listed]
    assert browser("admin").list(dag_id=run.dag_run.dag_id, agent_state="running") == []
    assert browser("admin").list(dag_id=run.dag_run.dag_id, active=True) == []
    assert browser("admin").list(dag_id=run.dag_run.dag_id, days=1e-10) == []


def test_a_waiting_task_is_listed_however_old_it_is(shinzo_row: Any, browser: Any) -> None:
    assert len(browser("admin").list(dag_id=shinzo_row.dag_id, days=1e-6)) == 1


def test_what_an_agent_says_is_shown_as_one_harmless_line(
    shinzo_row: Any, browser: Any, agent_task_sandbox: Any
) -> None:
    from airflow.models.xcom import XComModel

    names = {"dag_id": shinzo_row.dag_id, "run_id": shinzo_row.run_id, "task_id": "agent"}
    values = {
        "status": "s3://bucket/of-an-xcom-backend",
        "progress": {"current_step": "a\nb\x1b[31m" + "c" * 1000, "steps_completed": True, "total_steps": []},
        "usage": ["no", "mapping"],
        "_link_AgentTaskLink": "javascript:alert(1)",
    }
    with create_session() as session:
        for key, value in values.items():
            XComModel.set(key, value, **names, serialize=False, session=session)
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    assert listed["agent_state"] == ""
    assert listed["step"].startswith("True: a b [31mccc")
    assert len(listed["step"]) <= 200
    assert (listed["usage"], listed["url"]) == ("", "")


def test_the_service_is_asked_for_the_details(row: Any, browser: Any, agent_task_sandbox: Any) -> None:
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    before = len(agent_task_sandbox.requests())
    response = browser("admin").post(listed)
    assert response.status_code == 200
    assert len(agent_task_sandbox.requests()) == before + 1
    shown = response.json()
    assert shown["agent_state"] == "running"
    assert shown["agent_task_id"] == listed["agent_task_id"]
    assert shown["question"] == ""


def test_a_message_reaches_the_agent_and_the_audit_log(
    row: Any, browser: Any, agent_task_sandbox: Any
) -> None:
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    response = browser("admin").post(listed, "message", message="Use the London office.")
    assert response.status_code == 200
    assert response.json()["message"] == f"Sent the message to agent task {listed['agent_task_id']}."
    (sent,) = [one for one in agent_task_sandbox.requests() if "message" in one["path"].rsplit("/", 1)[-1]]
    assert sent["body"] == {"message": "Use the London office."}
    (entry,) = read_audit_log(row)
    assert (entry.event, entry.owner, entry.map_index) == ("agent_task.message", "the admin", -1)
    assert json.loads(entry.extra) == {
        "agent_task_id": listed["agent_task_id"],
        "conn_id": listed["conn_id"],
        "message_characters": "22",
    }


def test_a_lightcone_task_is_paused_and_resumed(run_dag: Any, browser: Any, agent_task_sandbox: Any) -> None:
    row = start(run_dag, LIGHTCONE)
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    for action, state, offered in (("pause", "paused", "resume"), ("resume", "running", "pause")):
        response = browser("admin").post(listed, action)
        assert (response.status_code, list(response.json())) == (200, ["message"])
        (listed,) = browser("admin").list(dag_id=row.dag_id)
        assert listed["agent_state"] == state
        assert offered in listed["actions"]
    assert [entry.event for entry in read_audit_log(row)] == ["agent_task.pause", "agent_task.resume"]


@pytest.mark.parametrize("state", ["deferred", "awaiting_input", "up_for_retry", "scheduled"])
def test_a_stop_ends_the_agent_and_its_airflow_task(
    row: Any, browser: Any, agent_task_sandbox: Any, state: str
) -> None:
    put(row, state)
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    response = browser("admin").post(listed, "stop")
    assert response.status_code == 200
    assert response.json()["message"].endswith("Its Airflow task was marked failed.")
    finish_stops()
    (agent,) = agent_task_sandbox.tasks()
    assert agent["status"] in ("cancelled", "paused")
    assert read(row).state == "failed"
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    assert listed["agent_state"] == agent["status"]
    assert [entry.event for entry in read_audit_log(row)] == ["agent_task.stop"]


def test_the_agent_of_an_ended_task_is_stopped_and_the_task_left(
    row: Any, browser: Any, agent_task_sandbox: Any
) -> None:
    put(row, "success")
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    response = browser("admin").post(listed, "stop")
    assert "marked" not in response.json()["message"]
    (agent,) = agent_task_sandbox.tasks()
    assert agent["status"] in ("cancelled", "paused")
    assert read(row).state == "success"


def test_what_the_service_cannot_do_is_said(shinzo_row: Any, browser: Any) -> None:
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    response = browser("admin").post(listed, "pause")
    assert response.status_code == 409
    assert "Shinzo" in response.json()["detail"]
    assert browser("admin").post(listed, "explode").status_code == 409
    assert read_audit_log(shinzo_row) == []


def test_a_service_that_is_down_is_said_and_what_may_go_on(
    shinzo_row: Any, browser: Any, agent_task_sandbox: Any
) -> None:
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    agent_task_sandbox.faults([{"path": "/agent", "status": 403, "times": 100}])
    response = browser("admin").post(listed, "stop")
    assert response.status_code == 409
    detail = response.json()["detail"]
    assert detail.startswith(f"Agent task {listed['agent_task_id']} may still be running: ")
    assert detail.endswith("Its Airflow task was marked failed.")
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    assert listed["state"] == "failed"


def test_a_task_that_airflow_cannot_mark_is_told(
    shinzo_row: Any, browser: Any, mocker: MockerFixture
) -> None:
    mocker.patch("airflow.models.dagbag.DBDagBag.get_latest_version_of_dag", return_value=None)
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    message = browser("admin").post(listed, "stop").json()["message"]
    assert message.endswith("because its DAG no longer has it. Its next try may start another agent.")
    assert read(shinzo_row).state == "deferred"


def test_a_task_that_succeeds_meanwhile_is_not_failed(shinzo_row: Any, browser: Any) -> None:
    from airflow_agent_tasks.airflow_compat.marked_failed import mark_failed
    from airflow_agent_tasks.airflow_compat.submission_rows import Criteria, list_submissions

    (seen,) = list_submissions(Criteria(datetime.now(timezone.utc), dag_id=shinzo_row.dag_id))
    assert not seen.has_ended
    put(shinzo_row, "success")
    assert mark_failed(seen) is False
    assert read(shinzo_row).state == "success"


@pytest.mark.parametrize("state", ["failed", "success"])
def test_an_agent_that_nobody_waits_for_is_not_resumed(run_dag: Any, browser: Any, state: str) -> None:
    row = start(run_dag, LIGHTCONE)
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    assert browser("admin").post(listed, "pause").status_code == 200
    put(row, state)
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    assert (listed["agent_state"], listed["actions"]) == ("paused", ["message", "stop"])
    assert browser("admin").post(listed, "resume").status_code == 409


def test_a_record_in_a_backend_of_the_workers_is_not_taken_for_a_damaged_one(
    shinzo_row: Any, browser: Any
) -> None:
    change_record(shinzo_row, lambda record: {"__airflow_state_ref__": "s3://bucket/record"})
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    assert (listed["agent_task_id"], listed["actions"], listed["has_details"]) == ("", [], False)
    assert listed["record"] == "elsewhere"
    change_record(shinzo_row, lambda record: "damaged")
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    assert listed["record"] == "damaged"


def test_a_start_without_a_response_is_unconfirmed(shinzo_row: Any, browser: Any) -> None:
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    assert listed["record"] == ""
    change_record(shinzo_row, lambda record: {**record, "task_id": None})
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    assert listed["record"] == "unconfirmed"


def test_a_later_agent_task_is_not_taken_for_the_one_on_the_page(shinzo_row: Any, browser: Any) -> None:
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    response = browser("admin").post({**listed, "agent_task_id": "tsk_old"}, "stop")
    assert response.status_code == 404
    assert read(shinzo_row).state == "deferred"


# --- who may do what


def test_a_viewer_sees_everything_and_may_do_nothing(row: Any, browser: Any, agent_task_sandbox: Any) -> None:
    viewer = browser("viewer")
    (listed,) = viewer.list(dag_id=row.dag_id)
    assert listed["actions"] == []
    assert viewer.post(listed).status_code == 200
    before = len(agent_task_sandbox.requests())
    for action in ("message", "pause", "resume", "stop"):
        assert viewer.post(listed, action, message="hello").status_code == 403
    assert len(agent_task_sandbox.requests()) == before
    assert read(row).state == "deferred"
    assert read_audit_log(row) == []


def test_without_access_to_a_dag_nothing_of_it_is_shown(
    shinzo_row: Any, browser: Any, mocker: MockerFixture
) -> None:
    (listed,) = browser("user").list(dag_id=shinzo_row.dag_id)
    usual = SimpleAuthManager.is_authorized_dag

    def is_authorized(self: Any, *, details: Any = None, **rest: Any) -> bool:
        if details and details.id == shinzo_row.dag_id:
            return False
        return usual(self, details=details, **rest)

    mocker.patch.object(SimpleAuthManager, "is_authorized_dag", is_authorized)
    user = browser("user")
    assert user.get(dag_id=shinzo_row.dag_id).status_code == 403
    assert shinzo_row.dag_id not in {one["dag_id"] for one in user.list(limit=200)}
    assert user.post(listed).status_code == 403
    assert user.post(listed, "stop").status_code == 403
    assert read(shinzo_row).state == "deferred"


def test_without_access_to_xcom_what_the_agent_says_is_hidden(
    shinzo_row: Any, browser: Any, mocker: MockerFixture, agent_task_sandbox: Any
) -> None:
    (agent,) = agent_task_sandbox.tasks()
    usual = SimpleAuthManager.is_authorized_dag

    def is_authorized(self: Any, *, access_entity: Any = None, **rest: Any) -> bool:
        entity = access_entity and access_entity.name
        return entity != "XCOM" and usual(self, access_entity=access_entity, **rest)

    mocker.patch.object(SimpleAuthManager, "is_authorized_dag", is_authorized)
    user = browser("user")
    for state in ("running", "completed"):
        if state == "completed":
            started = StartedTask(agent["task_id"], None, time.time())
            task = AgentTask("shinzo", agent["task_id"], TaskState.COMPLETED)
            closed = Submission.build_closed(started, task, "shinzo_default").to_json()
            change_record(shinzo_row, lambda record, closed=closed: closed)
        (listed,) = user.list(dag_id=shinzo_row.dag_id)
        hidden = [listed[name] for name in ("agent_state", "step", "usage", "url", "question_url")]
        assert (hidden, listed["has_details"]) == ([""] * 5, False)
        assert user.list(dag_id=shinzo_row.dag_id, agent_state=state) == []
        assert user.post(listed).status_code == 403
        response = user.post(listed, "stop")
        assert (response.status_code, response.json()) == (
            (200, {"message": "Done."}) if state == "running" else (409, {"detail": _UNEXPLAINED})
        )


def test_without_access_to_xcom_neither_buttons_nor_errors_say_what_the_agent_does(
    run_dag: Any, browser: Any, mocker: MockerFixture, agent_task_sandbox: Any
) -> None:
    row = start(run_dag, LIGHTCONE)
    (listed,) = browser("admin").list(dag_id=row.dag_id)
    assert browser("admin").post(listed, "pause").status_code == 200
    usual = SimpleAuthManager.is_authorized_dag

    def is_authorized(self: Any, *, access_entity: Any = None, **rest: Any) -> bool:
        entity = access_entity and access_entity.name
        return entity != "XCOM" and usual(self, access_entity=access_entity, **rest)

    mocker.patch.object(SimpleAuthManager, "is_authorized_dag", is_authorized)
    (listed,) = browser("user").list(dag_id=row.dag_id)
    # Whether it is paused or not.
    assert listed["actions"] == ["message", "pause", "resume", "stop"]
    agent_task_sandbox.faults([{"path": "/agent", "status": 409, "body": "It says no.", "times": 1}])
    response = browser("user").post(listed, "message", message="hello")
    assert response.status_code == 409
    assert response.json()["detail"].startswith("This could not be done. ")
    # What the user has typed is no secret.
    detail = browser("user").post(listed, "message", message="").json()["detail"]
    assert "must be a non-empty" in detail


def test_what_an_agent_has_said_cannot_be_searched(shinzo_row: Any, browser: Any) -> None:
    question = Question(1, 'the password "task_id": "hunter2', "f", asked_at=1.0).to_json()
    said = {"questions": [question], "result": {"said": "hunter2"}}
    change_record(shinzo_row, lambda record: {**record, **said})
    for text in ("hunter2", "password", 'task_id": "hunter2', "questions", "said"):
        assert browser("admin").list(dag_id=shinzo_row.dag_id, text=text) == []
    assert len(browser("admin").list(dag_id=shinzo_row.dag_id, text="shinzo_def")) == 1


def test_a_service_that_hangs_leaves_the_server_to_others(
    shinzo_row: Any, browser: Any, agent_task_sandbox: Any
) -> None:
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    agent_task_sandbox.faults([{"path": "/agent", "delay_seconds": 5, "times": 100}])
    user = browser("admin")
    with ThreadPoolExecutor(THREADS + 1) as pool:
        answers = [answer.result() for answer in [pool.submit(user.post, listed) for _ in range(THREADS + 1)]]
    assert sorted({answer.status_code for answer in answers}) == [200, 503]


def test_a_stranger_sees_nothing(shinzo_row: Any, browser: Any) -> None:
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    stranger = browser("viewer")
    stranger.headers = {"authorization": "Bearer nonsense"}
    for response in (stranger.get(), stranger.post(listed), stranger.post(listed, "stop")):
        assert response.status_code in (401, 403)
        assert listed["agent_task_id"] not in response.text


def test_another_site_cannot_act_with_the_cookie_of_a_user(shinzo_row: Any, browser: Any) -> None:
    (listed,) = browser("admin").list(dag_id=shinzo_row.dag_id)
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = browser("admin").send(listed, "stop", **{"content-type": content_type})
        assert response.status_code == 415
    assert read(shinzo_row).state == "deferred"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"dag_id": 1}',
        b'{"dag_id": "a", "run_id": "b", "task_id": "c", "agent_task_id": "d", "more": 1}',
        b"x" * (MAX_BODY + 1),
    ],
    ids=["empty", "half", "list", "null", "deep", "number", "more", "large"],
)
def test_a_malformed_request_is_rejected(api_server: str, browser: Any, body: bytes) -> None:
    assert browser("admin").send(body, "stop").status_code == 400


@pytest.mark.parametrize(
    "filters",
    [
        *({"limit": 0}, {"limit": 201}, {"offset": -1}, {"offset": 10**30}, {"days": 0}, {"days": 1e9}),
        *({"text": "x" * 201}, {"text": "\0"}, {"dag_id": "a\0"}, {"map_index": 10**30}, {"map_index": -2}),
    ],
)
def test_a_filter_out_of_range_is_rejected(api_server: str, browser: Any, filters: dict[str, Any]) -> None:
    assert browser("admin").get(**filters).status_code == 422


def read_audit_log(row: Any) -> list[Any]:
    """Return what Airflow's audit log has of our events about a task."""
    with create_session() as session:
        query = select(Log).filter_by(dag_id=row.dag_id, run_id=row.run_id, task_id=row.task_id)
        query = query.where(Log.event.startswith("agent_task.")).order_by(Log.id)
        entries = list(session.scalars(query))
        session.expunge_all()
    return entries
