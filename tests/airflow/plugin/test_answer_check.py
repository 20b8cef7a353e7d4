"""What the API server does with answers before Airflow stores them: real rows and a real server."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from pytest_mock import MockerFixture
from sqlalchemy import update
from starlette.requests import Request

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.airflow_compat.answer_route import ANSWER_PATH, add_check
from airflow_agent_tasks.lifecycle.question_form import MAX_REPLY, OPTIONS, Asking
from airflow_agent_tasks.plugin import answer_check, delay_early_answers
from airflow_agent_tasks.plugin.shared_tasks import SharedTasks
from lab.cluster.processes import wait_until
from tests.airflow.conftest import serve_airflow

GOOD = {"chosen_options": ["Send"], "params_input": {"reply": "One.", "question_id": "1-x"}}
#: To the server of these tests, who brings nothing at all is a user; ``lab/fuzz`` has another one.
STRANGERS: dict[str, dict[str, str]] = {
    "a wrong key": {"Authorization": "Bearer x"},
    "another scheme": {"Authorization": "Basic YTpi"},
    "a key that looks right": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
    "no text": {"Authorization": "Bearer \xff\xfe"},
    "a long key": {"Authorization": f"Bearer {'x' * 20_000}"},
}


@pytest.fixture
def ti(run_dag: Any) -> Any:
    """A task instance that awaits an answer, as far as Airflow's database tells."""
    run = run_dag("@task\ndef other():\n    return 1\n\nother()")
    return open_form(run._task_instance("other", -1))


def open_form(ti: Any, state: str = "awaiting_input", options: Any = OPTIONS) -> Any:
    task = AgentTask("shinzo", "tsk_1", TaskState.AWAITING_INPUT, question="Which one?")
    form = Asking(1, "1-x", task, "Shinzo", "Look.", "http://airflow.example/log").build_form()
    with create_session() as session:
        session.execute(update(TaskInstance).filter_by(id=ti.id).values(state=state))
        row = {"subject": form.subject, "body": form.body, "params": form.params, "options": list(options)}
        session.add(HITLDetail(ti_id=ti.id, **row))
    return ti


def read_answer(ti: Any) -> Any:
    with create_session() as session:
        return session.get(HITLDetail, ti.id).params_input or None


def url_of(server: str, ti: Any, **other: Any) -> str:
    names = {"dag_id": ti.dag_id, "dag_run_id": ti.run_id, "task_id": ti.task_id, "map_index": -1, **other}
    return server + ANSWER_PATH.format(**{name: quote(str(value), safe="") for name, value in names.items()})


@pytest.fixture
def user(api_server: str) -> dict[str, str]:
    """The headers of a user."""
    token = requests.get(f"{api_server}/auth/token", timeout=20).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def send(url: str, headers: dict[str, str], body: Any = GOOD) -> requests.Response:
    return requests.patch(url, json=body, headers=headers, timeout=30)


@pytest.fixture
def delaying_server(api_server: str, mocker: MockerFixture) -> Iterator[str]:
    """An API server that delays answers, whichever the executor."""
    mocker.patch.object(answer_check, "find_delay", return_value=delay_early_answers.delay)
    with socket.create_server(("127.0.0.1", 0)) as listening, serve_airflow(listening):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


# --- who is asked about at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_gets_the_same_refusal_whatever_the_task_and_costs_no_query(
    ti: Any, delaying_server: str, mocker: MockerFixture, stranger: dict[str, str]
) -> None:
    reads = [mocker.spy(answer_check, "read_open_form"), mocker.spy(delay_early_answers, "read_answer_delay")]
    headers = {name: value.encode("latin-1") for name, value in stranger.items()}
    places = [{}, {"dag_id": "no"}, {"dag_run_id": "no"}, {"task_id": "no"}, {"map_index": 7}]
    bodies = [GOOD, {**GOOD, "params_input": {}}]
    answers = {
        (response.status_code, response.text)
        for place, body in itertools.product(places, bodies)
        for response in [send(url_of(delaying_server, ti, **place), headers, body)]  # type: ignore[arg-type]
    }
    assert len(answers) == 1
    assert {status for status, _ in answers} <= {401, 403}
    assert [read.call_count for read in reads] == [0, 0]
    assert read_answer(ti) is None


def test_a_user_who_may_not_answer_is_refused_before_the_check() -> None:
    def requires_access_dag(user: str) -> Callable[[Request], None]:
        def inner(request: Request) -> None:
            if request.headers["user"] != user:
                raise HTTPException(403, "Forbidden")

        return inner

    requires_access_dag.__qualname__ = "requires_access_dag"
    allows = requires_access_dag("ada")
    allows.__qualname__ = "requires_access_dag.<locals>.inner"
    app, checked = FastAPI(), []

    @app.patch(ANSWER_PATH, dependencies=[Depends(allows)])
    def store(dag_id: str, body: dict[str, Any]) -> str:
        return dag_id

    async def check(request: Request) -> None:
        checked.append(request.path_params["task_id"])

    add_check(app, check)
    client = TestClient(app)
    path = ANSWER_PATH.format(dag_id="d", dag_run_id="r", task_id="t", map_index=-1)
    assert client.patch(path, headers={"user": "eve"}, json={}).status_code == 403
    assert checked == []
    assert client.patch(path, headers={"user": "ada"}, json={}).json() == "d"
    assert checked == ["t"]


@pytest.mark.parametrize("dependencies", [[], [lambda: None]], ids=["none", "another"])
def test_a_route_that_does_not_authorise_by_a_dependency_is_left_as_it_is(dependencies: Any) -> None:
    app = FastAPI()
    app.patch(ANSWER_PATH, dependencies=[Depends(one) for one in dependencies])(lambda: None)
    with pytest.raises(LookupError, match="does not authorise"):
        add_check(app, mocked_check)
    with pytest.raises(LookupError, match="no route"):
        add_check(FastAPI(), mocked_check)


async def mocked_check(request: Request) -> None:
    raise AssertionError("this must not be called")


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        *(
            {"reply": reply}
            for reply in (None, "", " ", "\n\t \u3000", "\0", 5, True, [], ["One."], {"a": "b"})
        ),
        {"reply": "x" * (MAX_REPLY + 1)},
        {"reply": "", "question_id": "1-x"},
        {"Reply": "One."},
    ],
    ids=lambda fields: repr(fields)[:30],
)
def test_a_reply_that_its_worker_would_reject_is_refused_at_once(
    ti: Any, api_server: str, user: dict[str, str], fields: dict[str, Any]
) -> None:
    response = send(url_of(api_server, ti), user, {"chosen_options": ["Send"], "params_input": fields})
    assert response.status_code == 400
    assert response.json()["detail"].startswith("The reply was not sent: it ")
    assert response.json()["detail"].endswith(f"Type 1 to {MAX_REPLY} characters and press Send.")
    assert read_answer(ti) is None
    assert send(url_of(api_server, ti), user).status_code == 200
    assert read_answer(ti) == GOOD["params_input"]


@pytest.mark.parametrize("body", [{"chosen_options": ["Send"]}, {"chosen_options": ["Send"], "more": 1}])
def test_a_reply_without_fields_is_refused_at_once(
    ti: Any, api_server: str, user: dict[str, str], body: Any
) -> None:
    assert send(url_of(api_server, ti), user, body).status_code == 400


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("question_id", ["0-x", "", 1, [], {"value": "1-x"}])
def test_an_answer_to_another_question_is_refused_with_what_to_do(
    ti: Any, api_server: str, user: dict[str, str], option: str, question_id: Any
) -> None:
    fields = {"reply": "One.", "question_id": question_id}
    response = send(url_of(api_server, ti), user, {"chosen_options": [option], "params_input": fields})
    assert (response.status_code, response.json()["detail"]) == (409, answer_check.OTHER_QUESTION)
    assert "Reload the page" in answer_check.OTHER_QUESTION
    assert read_answer(ti) is None


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        {"chosen_options": ["Send"], "params_input": {"reply": "x" * MAX_REPLY}},
        {"chosen_options": ["Send"], "params_input": {"reply": "One.", "question_id": None}},
        {"chosen_options": ["Stop the agent"], "params_input": {"reply": ""}},
        {"chosen_options": ["Stop the agent"], "params_input": {"question_id": "1-x"}},
    ],
)
def test_what_a_worker_takes_is_taken(ti: Any, api_server: str, user: dict[str, str], body: Any) -> None:
    assert send(url_of(api_server, ti), user, body).status_code == 200
    assert read_answer(ti) == body["params_input"]
    # Airflow's own refusal of a second answer, though this one would be refused here.
    second = send(url_of(api_server, ti), user, {"chosen_options": ["Send"]})
    assert second.status_code == 409
    assert "already been updated" in second.json()["detail"]


MALFORMED = [
    *(None, 5, "x", [], {}, {"chosen_options": []}, {"chosen_options": "Send"}, {"chosen_options": [None]}),
    {"chosen_options": ["Send"], "params_input": None},
    {"chosen_options": ["Send"], "params_input": [1]},
    {"chosen_options": [["Send"]], "params_input": {}},
    {"chosen_options": ["Approve"], "params_input": {}},
    {"chosen_options": ["Send", "Send"], "params_input": {}},
    {"chosen_options": ["Send", "Stop the agent"], "params_input": {}},
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body)[:40])
def test_a_malformed_answer_goes_on_to_airflow(
    ti: Any, api_server: str, user: dict[str, str], mocker: MockerFixture, body: Any
) -> None:
    with_check = send(url_of(api_server, ti), user, body)
    mocker.patch.object(answer_check, "_read_answer", return_value=None)
    without = send(url_of(api_server, ti), user, body)
    assert (with_check.status_code, with_check.text) == (without.status_code, without.text)
    assert with_check.status_code in (400, 422)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 20_000, b'{"chosen_options": ["Send"]'])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_body_that_cannot_be_read_goes_on_to_airflow(
    ti: Any, api_server: str, user: dict[str, str], mocker: MockerFixture, data: bytes, kind: str
) -> None:
    given: Any = {"data": data, "headers": {**user, "Content-Type": kind}}
    with_check = requests.patch(url_of(api_server, ti), timeout=30, **given)
    mocker.patch.object(answer_check, "_read_answer", return_value=None)
    without = requests.patch(url_of(api_server, ti), timeout=30, **given)
    assert (with_check.status_code, with_check.text) == (without.status_code, without.text)


def test_a_form_that_names_no_question_takes_an_answer_that_does(
    ti: Any, api_server: str, user: dict[str, str]
) -> None:
    with create_session() as session:
        session.execute(update(HITLDetail).filter_by(ti_id=ti.id).values(params={"reply": {"value": None}}))
    assert send(url_of(api_server, ti), user).status_code == 200


@pytest.mark.parametrize("options", [["Approve"], ["Send"], ["Send", "Stop"], ["Stop the agent", "Send"]])
def test_answers_to_the_forms_of_others_are_not_checked(
    run_dag: Any, delaying_server: str, user: dict[str, str], mocker: MockerFixture, options: list[str]
) -> None:
    delay = mocker.spy(delay_early_answers, "read_answer_delay")
    ti = run_dag("@task\ndef other():\n    return 1\n\nother()")._task_instance("other", -1)
    open_form(ti, options=options)
    body = {"chosen_options": options[:1], "params_input": {"question_id": "0-x", "reply": ""}}
    assert send(url_of(delaying_server, ti), user, body).status_code == 200
    assert read_answer(ti) == body["params_input"]
    assert delay.call_count == 0


@pytest.mark.parametrize(
    "read", [(answer_check, "read_open_form"), (delay_early_answers, "read_answer_delay")]
)
def test_an_answer_goes_on_where_its_task_cannot_be_read(
    ti: Any, delaying_server: str, user: dict[str, str], mocker: MockerFixture, caplog: Any, read: Any
) -> None:
    mocker.patch.object(*read, side_effect=RuntimeError("the database is away; secret"))
    assert send(url_of(delaying_server, ti), user).status_code == 200
    (line,) = [record for record in caplog.records if record.name == answer_check.__name__]
    assert line.getMessage() == "Could not read the task of an answer to check it: RuntimeError"
    assert line.exc_info is None


@pytest.mark.parametrize(
    "place", [{"map_index": 10**30}, {"task_id": "\0"}, {"map_index": "x"}, {"dag_id": "ü'\""}]
)
def test_a_place_that_no_database_knows_is_left_to_airflow(
    ti: Any, api_server: str, user: dict[str, str], mocker: MockerFixture, place: dict[str, Any]
) -> None:
    with_check = send(url_of(api_server, ti, **place), user).status_code
    mocker.patch.object(answer_check, "_read_answer", return_value=None)
    assert send(url_of(api_server, ti, **place), user).status_code == with_check


# --- how long they wait ------------------------------------------------------------------------------------


def test_for_all_who_answer_a_task_the_database_is_asked_once(
    ti: Any, delaying_server: str, user: dict[str, str], mocker: MockerFixture
) -> None:
    looks: list[float] = []
    may_go = threading.Event()

    def look(key: Any) -> float:
        looks.append(time.monotonic())
        return 0.0 if may_go.is_set() else 0.3

    mocker.patch.object(delay_early_answers, "read_answer_delay", side_effect=look)
    arrived = mocker.spy(answer_check, "check_answer")
    with ThreadPoolExecutor(30) as threads:
        waiting = [threads.submit(send, url_of(delaying_server, ti), user) for _ in range(30)]
        assert wait_until(lambda: arrived.call_count == 30, timeout=30)
        looks.clear()
        assert wait_until(lambda: len(looks) == 3, timeout=30)
        took = looks[-1] - looks[0]
        may_go.set()
        statuses = {one.result().status_code for one in waiting}
    assert took >= 0.5  # thirty that look for themselves need a tenth of it
    assert statuses <= {200, 409}  # SQLite locks no row: Airflow may take several at the same time


def test_nobody_who_has_hung_up_is_waited_for(
    ti: Any, delaying_server: str, user: dict[str, str], mocker: MockerFixture, capfd: Any
) -> None:
    mocker.patch.object(delay_early_answers, "read_answer_delay", return_value=600.0)
    asleep, woken = threading.Event(), threading.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        try:
            await asyncio.Event().wait()
        finally:
            woken.set()

    fake = mocker.patch.object(delay_early_answers, "asyncio")
    fake.sleep, fake.to_thread = sleep, asyncio.to_thread
    request = requests.Request("PATCH", url_of(delaying_server, ti), json=GOOD, headers=user).prepare()
    address = urlsplit(delaying_server)
    lines = [
        f"PATCH {request.path_url} HTTP/1.1",
        "Host: x",
        *(f"{k}: {v}" for k, v in request.headers.items()),
    ]
    assert isinstance(request.body, bytes)
    first, second = (socket.create_connection((address.hostname, address.port)) for _ in range(2))
    arrived = mocker.spy(answer_check, "check_answer")
    for client in (first, second):
        client.sendall("\r\n".join([*lines, "", ""]).encode() + request.body)
    assert wait_until(lambda: arrived.call_count == 2, timeout=20)
    assert asleep.wait(20)
    first.close()
    assert not woken.wait(0.5)  # the second still waits
    second.close()
    assert woken.wait(20)
    assert read_answer(ti) is None
    assert "Traceback" not in "".join(capfd.readouterr())


# --- work that many wait for -------------------------------------------------------------------------------


def test_shared_work_is_done_once_and_ends_with_its_last_waiter() -> None:
    runs: list[str] = []
    ended: list[str] = []

    async def run(key: str) -> str:
        runs.append(key)
        try:
            await may_go.wait()
        finally:
            ended.append(key)
        if key == "broken":
            raise ValueError(key)
        return key

    async def main() -> None:
        nonlocal may_go
        may_go = asyncio.Event()
        shared = SharedTasks(run)
        waiters = [asyncio.ensure_future(shared.wait_for(key)) for key in ("a", "b", "a", "broken", "broken")]
        await asyncio.sleep(0)
        waiters[0].cancel()
        waiters[1].cancel()
        await asyncio.wait(waiters[:2])
        await asyncio.sleep(0)
        assert (runs, ended) == (["a", "b", "broken"], ["b"])
        again = asyncio.ensure_future(shared.wait_for("b"))
        await asyncio.sleep(0)
        may_go.set()
        assert (await waiters[2], await again) == ("a", "b")
        for broken in waiters[3:]:
            with pytest.raises(ValueError, match="broken"):
                await broken
        assert runs == ["a", "b", "broken", "b"]
        assert await shared.wait_for("a") == "a"
        assert runs[-1] == "a"  # what has ended is done anew
        assert (shared._tasks, shared._waiters) == ({}, {})

    may_go: asyncio.Event
    asyncio.run(main())
