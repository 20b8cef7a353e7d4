"""The links on the page of a task, as Airflow's API server gives them to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from lab.cluster.airflow_api import AirflowApi
from tests.airflow.questions import ask

ADDRESS = "https://app.example.com/tasks/{task_id}"
KINDS = pytest.mark.parametrize("kind", ["LightconeTaskOperator", "ShinzoTaskOperator"])
#: Asks for the links in the middle of an execution, as the page does.
LOOK = """
import json
from lab.cluster.airflow_api import AirflowApi
from airflow.sdk import get_current_context

def look(question):
    ti = get_current_context()["ti"]
    path = f"/dags/{{ti.dag_id}}/dagRuns/{{ti.run_id}}/taskInstances/{{ti.task_id}}/links"
    api = AirflowApi({address!r})
    found = api.request("GET", path, parameters={{"map_index": ti.map_index}})["extra_links"]
    with open({file!r}, "a") as seen:
        print(json.dumps(found), file=seen)
    return {answer!r}

"""


@pytest.fixture
def connect(agent_task_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that changes the extra of both connections."""

    def change(**extra: Any) -> None:
        for name, value in agent_task_sandbox.connection_variables().items():
            fields = json.loads(value)
            monkeypatch.setenv(name, json.dumps({**fields, "extra": {**fields["extra"], **extra}}))

    change(task_url=ADDRESS)
    return change


@pytest.fixture
def look(api_server: str, tmp_path: Any) -> Any:
    """Return a function that makes the source of ``look``, and one that returns what it saw."""
    file = tmp_path / "links"
    file.touch()

    def make(answer: str | None = "Yes.") -> str:
        return LOOK.format(address=api_server, file=str(file), answer=answer)

    make.seen = lambda: [json.loads(line) for line in file.read_text().splitlines()]  # type: ignore[attr-defined]
    return make


def read_links(api_server: str, run: Any, task_id: str = "agent", map_index: int = -1) -> dict[str, Any]:
    path = f"/dags/{run.dag_run.dag_id}/dagRuns/{run.dag_run.run_id}/taskInstances/{task_id}/links"
    found = AirflowApi(api_server).request("GET", path, parameters={"map_index": map_index})
    links: dict[str, Any] = found["extra_links"]
    return links


def ids(sandbox: Any) -> list[str]:
    return [task["task_id"] for task in sandbox.tasks()]


def links_to(task_id: str) -> dict[str, Any]:
    return {"Agent task": ADDRESS.format(task_id=task_id), "Question": None}


@pytest.mark.parametrize("deferrable", [False, True])
@KINDS
def test_a_task_links_to_its_agent_task_while_it_runs_and_after_its_end(
    kind: str,
    deferrable: bool,
    run_dag: Any,
    look: Any,
    connect: Any,
    agent_task_sandbox: Any,
    api_server: str,
) -> None:
    source = ask("Red or blue?", kind=kind, deferrable=deferrable).replace("task_id=", "reply=look, task_id=")
    run = run_dag(look() + source)
    assert run.state == "success"
    (task_id,) = ids(agent_task_sandbox)
    assert look.seen() == [links_to(task_id)]
    assert read_links(api_server, run) == links_to(task_id)


def test_a_mapped_task_links_to_its_own_agent_task(
    run_dag: Any, look: Any, connect: Any, agent_task_sandbox: Any, api_server: str
) -> None:
    scripts = [f'#sandbox {{"steps": 3, "step_seconds": 0, "ask": ["Which {n}?"]}}' for n in (0, 1)]
    mapped = "ShinzoTaskOperator.partial(task_id='agent', reply=look, deferrable=True)"
    run = run_dag(f"{look()}{mapped}.expand(message={scripts!r})")
    found = [run.xcom("agent", "task_id", index) for index in (0, 1)]
    assert sorted(found) == sorted(ids(agent_task_sandbox))
    assert sorted(map(str, look.seen())) == sorted(str(links_to(each)) for each in found)
    assert [read_links(api_server, run, map_index=index) for index in (0, 1)] == list(map(links_to, found))


def test_a_decorated_function_and_a_sensor_link_to_the_agent_task(
    run_dag: Any, connect: Any, agent_task_sandbox: Any, api_server: str
) -> None:
    run = run_dag("""
        @task.lightcone(wait_for_completion=False)
        def agent():
            return '#sandbox {"steps": 100, "step_seconds": 10}'

        task_id = "{{ ti.xcom_pull('agent', key='task_id') }}"
        named = {"agent_task_id": task_id, "conn_id": "lightcone_default"}
        tell = AgentTaskMessageOperator(task_id="tell", message="Hello", **named)
        wait = AgentTaskSensor(task_id="wait", deferrable=True, target_states="running", **named)
        agent() >> tell >> wait
    """)
    (task_id,) = ids(agent_task_sandbox)
    assert read_links(api_server, run) == links_to(task_id)
    for other in ("tell", "wait"):
        assert read_links(api_server, run, other) == {"Agent task": ADDRESS.format(task_id=task_id)}


@pytest.mark.parametrize(
    "arguments", ["", ", deferrable=True", ", do_xcom_push=False", ", deferrable=True, timeout=0.2"]
)
def test_a_failed_task_keeps_its_link(
    arguments: str, run_dag: Any, connect: Any, agent_task_sandbox: Any, api_server: str
) -> None:
    script = '#sandbox {"steps": 3, "step_seconds": 0.1, "exit_code": 1}'
    run = run_dag(f"LightconeTaskOperator(task_id='agent', instruction={script!r}{arguments})")
    assert run.state == "failed"
    (task_id,) = ids(agent_task_sandbox)
    assert read_links(api_server, run) == links_to(task_id)


def test_a_start_that_fails_leaves_no_link(
    run_dag: Any, connect: Any, agent_task_sandbox: Any, api_server: str
) -> None:
    agent_task_sandbox.faults([{"path": "/agent/tasks", "status": 400}])
    run = run_dag("LightconeTaskOperator(task_id='agent', instruction='Go.')")
    assert run.state == "failed"
    assert read_links(api_server, run) == {"Agent task": None, "Question": None}


def test_an_execution_that_never_reaches_the_service_stores_no_dead_link(
    run_dag: Any, connect: Any, api_server: str
) -> None:
    run = run_dag("""
        @task.lightcone
        def agent():
            raise ValueError("no instruction")

        agent()
    """)
    assert run.state == "failed"
    assert read_links(api_server, run) == {"Agent task": None, "Question": None}


def test_without_a_pattern_there_is_neither_a_link_nor_a_row_for_one(
    run_dag: Any, connect: Any, api_server: str
) -> None:
    connect(task_url=None)
    run = run_dag("LightconeTaskOperator(task_id='agent', instruction='#sandbox {\"step_seconds\": 0}')")
    assert run.state == "success"
    assert read_links(api_server, run) == {"Agent task": None, "Question": None}
    path = f"/dags/{run.dag_run.dag_id}/dagRuns/{run.dag_run.run_id}/taskInstances/agent/xcomEntries"
    keys = [entry["key"] for entry in AirflowApi(api_server).request("GET", path)["xcom_entries"]]
    assert "status" in keys
    assert [key for key in keys if key.startswith("_link_")] == []


def test_a_wrong_pattern_fails_the_task_before_an_agent_starts(
    run_dag: Any, connect: Any, agent_task_sandbox: Any
) -> None:
    connect(task_url="https://app.example.com/{run_id}")
    run = run_dag("ShinzoTaskOperator(task_id='agent', message='Go.')")
    assert run.state == "failed"
    assert "no placeholder but {task_id} and {agent_id}" in run.xcom("agent", "error")
    assert agent_task_sandbox.tasks() == []


@pytest.mark.parametrize(
    ("hostile", "quoted"),
    [
        ("../../x", "..%2F..%2Fx"),
        ("a b", "a%20b"),
        ('"><script>', "%22%3E%3Cscript%3E"),
        ("..", None),
    ],
)
def test_a_hostile_id_leads_nowhere_else(
    hostile: str, quoted: str | None, run_dag: Any, connect: Any, api_server: str
) -> None:
    run = run_dag(f"AgentTaskSensor(task_id='agent', agent_task_id={hostile!r}, conn_id='lightcone_default')")
    assert run.state == "failed"
    wanted = quoted and ADDRESS.format(task_id=quoted)
    assert read_links(api_server, run) == {"Agent task": wanted}


def test_an_own_link_of_a_users_class_stays(run_dag: Any, connect: Any, api_server: str) -> None:
    run = run_dag("""
        from airflow.sdk import BaseOperatorLink

        class Wiki(BaseOperatorLink):
            name = "Wiki"

            def get_link(self, operator, *, ti_key):
                return "https://wiki.example.com"

        class Ours(LightconeTaskOperator):
            operator_extra_links = (*LightconeTaskOperator.operator_extra_links, Wiki())

        Ours(task_id="agent", instruction='#sandbox {"step_seconds": 0}')
    """)
    links = read_links(api_server, run)
    assert links["Wiki"] == "https://wiki.example.com"
    assert links["Agent task"] == ADDRESS.format(task_id=run.xcom("agent", "task_id"))


@pytest.mark.parametrize("index", [-1, 1])
def test_an_open_question_has_a_link_to_its_form_until_it_is_answered(
    index: int,
    run_with_person: Any,
    connect: Any,
    api_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def answer(api: Any, form: Any) -> None:
        ti = form["task_instance"]
        path = f"/dags/{ti['dag_id']}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}/links"
        links = api.request("GET", path, parameters={"map_index": ti["map_index"]})["extra_links"]
        mapped = "" if ti["map_index"] < 0 else f"/mapped/{ti['map_index']}"
        page = f"{api_server}/dags/{ti['dag_id']}/runs/{quote(ti['dag_run_id'])}"
        seen.append(links["Question"] == f"{page}/tasks/agent{mapped}/required_actions" or links["Question"])
        api.answer(form, "Red.")

    source = ask("Red or blue?", deferrable=True)
    if index >= 0:
        operator, _, arguments = source.partition("(task_id='agent', message=")
        message, _, _ = arguments.rpartition(", deferrable")
        source = f"{operator}.partial(task_id='agent', deferrable=True).expand(message=[{message}] * 2)"
    run, forms = run_with_person(source, [answer] * (1 if index < 0 else 2))
    assert run.state == "success"
    assert seen == [True] * len(forms)
    assert read_links(api_server, run, map_index=index)["Question"] is None
