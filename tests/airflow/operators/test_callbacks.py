"""Operators whose service is to call Airflow: what the service gets, and what stays secret."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from airflow.sdk import timezone
from airflow.sdk.exceptions import TaskDeferred

from airflow_agent_tasks.callbacks.token import CallbackToken, fingerprint, read_token
from airflow_agent_tasks.lifecycle.callback import WITHOUT_DEADLINE
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from airflow_agent_tasks.lifecycle.trigger_event import build_callback_event
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from tests.airflow.conftest import LONG_SCRIPT
from tests.airflow.questions import ask, heard
from tests.airflow.worker.life import Store
from tests.raw_server import Exchange, reply

#: Nothing listens there: the sandbox's calls are lost.
BASE = "http://127.0.0.1:1/airflow"
SECRET = "a-secret-of-the-tests"
QUICK = '#sandbox {"steps": 1, "step_seconds": 0.05, "result": {"answer": 42}}'
#: Surely not over at the first check.
STILL_RUNNING = '#sandbox {"steps": 1, "step_seconds": 3, "result": {"answer": 42}}'
BOTH_MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])
PATH = "/agent-tasks/callback/"


@pytest.fixture(autouse=True)
def callback_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__CALLBACK_BASE_URL", BASE)
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__CALLBACK_SECRET", SECRET)


def agent(message: str = QUICK, **arguments: Any) -> str:
    """Return the source of an operator whose service is to call Airflow."""
    given = {"task_id": "agent", "message": message, "callback_mode": "webhook", **arguments}
    return f"ShinzoTaskOperator({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def list_urls(sandbox: Any) -> list[str]:
    return [task["request"]["webhook_url"] for task in sandbox.tasks()]


def read(url: str) -> CallbackToken:
    """Return what the token of a URL says."""
    token = read_token([SECRET], url.removeprefix(BASE + PATH), now=time.time())
    assert token, url
    return token


# --- what the service gets


@BOTH_MODES
def test_the_service_gets_a_url_that_names_the_task_and_its_submission(
    run_dag: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    run = run_dag(agent(deferrable=deferrable))
    assert (run.state, run.xcom("agent")["result"]) == ("success", {"answer": 42})
    (task,) = agent_task_sandbox.tasks()
    (url,) = list_urls(agent_task_sandbox)
    assert url.startswith(f"{BASE}{PATH}")
    key = task["request"]["metadata"]["idempotency_key"]
    own_id = UUID(str(run.dag_run.get_task_instance("agent").id))
    assert read(url) == CallbackToken(own_id, fingerprint(key))
    token = url.rpartition("/")[2]
    assert read_token([SECRET], token, now=time.time() + WITHOUT_DEADLINE + 1) is None


def test_a_url_of_the_users_own_goes_to_the_service_unchanged(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(agent(webhook_url="http://127.0.0.1:1/done?for=me", deferrable=True))
    assert run.state == "success"
    assert list_urls(agent_task_sandbox) == ["http://127.0.0.1:1/done?for=me"]


def test_without_a_setting_the_service_calls_the_url_of_the_airflow_ui(
    run_dag: Any, agent_task_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__AGENT_TASKS__CALLBACK_BASE_URL")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:1/ui/")
    run_dag(agent())
    assert list_urls(agent_task_sandbox)[0].startswith(f"http://127.0.0.1:1/ui{PATH}")


def test_the_mode_may_be_a_template(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(agent(callback_mode="{{ 'web' + 'hook' }}"))
    assert run.state == "success"
    assert list_urls(agent_task_sandbox)[0].startswith(BASE)


def test_a_template_that_renders_to_poll_asks_for_no_call(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(agent(callback_mode="{{ 'poll' }}"))
    assert run.state == "success"
    assert "webhook_url" not in agent_task_sandbox.tasks()[0]["request"]


def test_each_mapped_task_has_a_url_of_its_own(run_dag: Any, agent_task_sandbox: Any) -> None:
    source = agent().replace("ShinzoTaskOperator(", "ShinzoTaskOperator.partial(")
    run = run_dag(f"{source[:-1]}).expand(priority=[1, 2, 3])")
    assert run.state == "success"
    tokens = {read(url).task_instance_id for url in list_urls(agent_task_sandbox)}
    assert tokens == {UUID(str(run.dag_run.get_task_instance("agent", map_index=at).id)) for at in range(3)}


def test_a_decorated_function_is_called_back_too(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        f"""
        @task.shinzo(callback_mode="webhook", deferrable=True)
        def agent():
            return {QUICK!r}

        agent()
        """
    )
    assert run.state == "success"
    assert read(*list_urls(agent_task_sandbox))


# --- settings that allow no callback


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "BASE_URL",
            "airflow.example",
            "callback_base_url must be an http:// or https:// URL without user, password,",
        ),
        ("SECRET", " , ", "There is no secret to sign the URL of a callback with."),
    ],
)
def test_without_a_usable_setting_nothing_is_started_and_nothing_is_tried_again(
    run_dag: Any,
    agent_task_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
    name: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(f"AIRFLOW__AGENT_TASKS__CALLBACK_{name}", value)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    run = run_dag(agent(retries=2))
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    printed = capfd.readouterr().out
    assert message in printed
    assert "AgentTaskConfigurationError" in printed
    assert agent_task_sandbox.requests() == []


# --- what is kept


@BOTH_MODES
def test_the_token_is_in_no_log_xcom_or_rendered_field(
    run_dag: Any, agent_task_sandbox: Any, capfd: Any, deferrable: bool
) -> None:
    run = run_dag(agent(STILL_RUNNING, deferrable=deferrable))
    token = list_urls(agent_task_sandbox)[0].rpartition("/")[2]
    printed = capfd.readouterr()
    assert f"Shinzo will call {BASE}{PATH}… when the agent task changes." in printed.out
    assert token not in printed.out + printed.err
    assert token not in repr(list_xcoms(run))
    assert token not in repr(read_rendered_fields(run))


def list_xcoms(run: Any) -> list[Any]:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.query(XComModel.key, XComModel.value).filter_by(run_id=run.dag_run.run_id).all()
        assert rows
        return [tuple(row) for row in rows]


def read_rendered_fields(run: Any) -> Any:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    with create_session() as session:
        row = run._task_instance("agent", -1)
        return RenderedTaskInstanceFields.get_templated_fields(row, session=session)


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_the_token_is_hidden_where_the_service_quotes_it(
    run_dag: Any, serve: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any, kind: str
) -> None:
    urls: list[str] = []

    def quote(exchange: Exchange) -> None:
        urls.append(exchange.server.requests[-1].json["webhook_url"])
        text = f"Not {urls[-1]}!"
        exchange.send(reply(400, {"error": text} if "json" in kind else text, kind=kind))

    connection = {"conn_type": "shinzo", "host": serve(quote).url, "password": "sk_test"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_SHINZO_DEFAULT", json.dumps({**connection, "extra": {"agent_id": "agt_1"}})
    )
    run = run_dag(agent())
    assert run.task_state("agent") == "failed"
    token = urls[0].rpartition("/")[2]
    printed = capfd.readouterr().out
    assert f"'Not {BASE}{PATH}***!'" in printed
    assert token not in printed
    assert token not in repr(list_xcoms(run))


def test_airflow_masks_the_token(agent_task_sandbox: Any, airflow_home: Any) -> None:
    # dag.test() masks nothing in its log.
    from airflow.sdk.log import redact

    waiting = Waiting(LONG_SCRIPT)
    waiting.defer(waiting.operator.execute)
    (url,) = list_urls(agent_task_sandbox)
    assert redact(f"{url} is not allowed") == f"{BASE}{PATH}*** is not allowed"


# --- waiting and waking


def test_dag_test_polls_as_without_a_callback(run_dag: Any, agent_task_sandbox: Any) -> None:
    # Otherwise it would wait for 300 seconds: nothing wakes its tasks.
    run = run_dag(agent(STILL_RUNNING, deferrable=True))
    assert run.state == "success"
    assert len(list_status_checks(agent_task_sandbox)) > 1


def list_status_checks(sandbox: Any) -> list[Any]:
    return [one for one in sandbox.requests() if one["method"] == "GET"]


class Waiting:
    """An Airflow task that waits for an agent task that its service is to report on."""

    def __init__(self, message: str) -> None:
        self.operator = ShinzoTaskOperator(
            task_id="agent", message=message, callback_mode="webhook", deferrable=True
        )
        self.store = Store()
        ti = SimpleNamespace(
            **{"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": -1, "id": uuid4()},
            **{"try_number": 1, "max_tries": 0, "log_url": "", "task": self.operator},
            **{"start_date": timezone.utcnow(), "xcom_push": lambda **_: None},
        )
        self.context: Any = {"ti": ti, "task_state_store": self.store}

    def defer(self, method: Any, **arguments: Any) -> TaskDeferred:
        with pytest.raises(TaskDeferred) as deferred:
            method(self.context, **arguments)
        return deferred.value


def test_a_task_that_is_called_back_asks_its_service_once(agent_task_sandbox: Any, airflow_home: Any) -> None:
    waiting = Waiting(LONG_SCRIPT)
    first = waiting.defer(waiting.operator.execute)
    assert first.trigger.is_called_back
    assert not list_status_checks(agent_task_sandbox)
    assert waiting.store[RECORD_KEY]["is_called_back"] is True
    again = waiting.defer(waiting.operator.execute_complete, event=build_callback_event(1))
    assert again.trigger.is_called_back
    assert len(list_status_checks(agent_task_sandbox)) == 1


def test_a_task_that_is_called_back_at_the_end_delivers_the_result(
    agent_task_sandbox: Any, airflow_home: Any
) -> None:
    waiting = Waiting('#sandbox {"steps": 1, "step_seconds": 0, "result": {"answer": 42}}')
    waiting.defer(waiting.operator.execute)
    returned = waiting.operator.execute_complete(waiting.context, event=build_callback_event(1))
    assert returned["result"] == {"answer": 42}
    assert len(list_status_checks(agent_task_sandbox)) == 1


def wake(api: Any, form: dict[str, Any]) -> None:
    """Wake a parked task as a callback does."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import handle_event_submit
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        task_instance = session.get(TaskInstance, UUID(form["task_instance"]["id"]))
        handle_event_submit(
            TriggerEvent(build_callback_event(1)), task_instance=task_instance, session=session
        )


@BOTH_MODES
def test_a_parked_task_that_is_called_back_parks_again(
    run_with_person: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    source = ask("Which one?", callback_mode="webhook", deferrable=deferrable)
    run, forms = run_with_person(source, [wake, "One."])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One."])
    assert len({form["created_at"] for form in forms}) == 1


def test_a_parked_task_that_is_called_back_goes_on_if_its_question_was_answered_on_the_service(
    run_with_person: Any, agent_task_sandbox: Any
) -> None:
    from airflow_agent_tasks.hooks.find_hook import find_hook

    def answer_elsewhere(api: Any, form: Any) -> None:
        (task,) = agent_task_sandbox.tasks()
        find_hook("shinzo_default").send_message(task["task_id"], "From elsewhere.", task["agent_id"])
        wake(api, form)

    run, _ = run_with_person(ask("Which one?", callback_mode="webhook"), [answer_elsewhere])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["From elsewhere."])
