"""Tasks that 0.1.0 has left waiting go on with this version: through ``dag.test()`` and the REST API."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from inspect import signature
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from airflow.sdk import timezone
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow.sdk.execution_time.hitl import upsert_hitl_detail

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.question_log import build_fingerprint
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from airflow_agent_tasks.operators.agent_task import AgentTaskOperator
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor
from lab.cluster.processes import wait_until
from tests.airflow.questions import BOTH_SERVICES, ask, heard
from tests.airflow.started_tasks import start, then
from tests.samples_of_0_1_0 import load

RECORDS, FORMS, TRIGGERS, RESUMES = (load(name) for name in ("records", "forms", "triggers", "resumes"))
#: Replaces the ``execute`` of a task by what leaves the rows of 0.1.0.
LEAVE = "from tests.airflow.operators.test_tasks_of_0_1_0 import *\n"


def leave_deferred(operator: AgentTaskOperator, context: Any, trigger: str) -> NoReturn:
    """Start an agent task, and leave what 0.1.0 stores while it waits in the triggerer."""
    task = operator.hook.start_task(
        agent_id=operator.agent_id, **{name: getattr(operator, name) for name in operator.start_field_names}
    )
    write_record(context, RECORDS[f"started_{task.service}"], task)
    sample = TRIGGERS[trigger]
    ids = {"agent_task_id": task.task_id, "started_at": time.time(), "not_before": time.time()}
    operator.defer(
        trigger=import_string(sample["classpath"])(**{**sample["kwargs"], **ids}),
        method_name=RESUMES[f"completed_{task.service}"]["next_method"],
    )
    raise AssertionError("defer() does not return")


def leave_sensor(sensor: AgentTaskSensor, context: Any) -> NoReturn:
    """Leave what 0.1.0 stores while a sensor waits in the triggerer."""
    sample = TRIGGERS["sensor"]
    ids = {"agent_task_id": sensor.agent_task_id, "started_at": time.time(), "not_before": time.time()}
    trigger = import_string(sample["classpath"])(**{**sample["kwargs"], **ids})
    sensor.defer(trigger=trigger, method_name=RESUMES["deferred_lightcone"]["next_method"])
    raise AssertionError("defer() does not return")


def leave_parked(operator: AgentTaskOperator, context: Any) -> NoReturn:
    """Start an agent task, wait for its question, and leave what 0.1.0 stores while someone is asked."""
    hook = operator.hook
    fields = {name: getattr(operator, name) for name in operator.start_field_names}
    task = hook.start_task(agent_id=operator.agent_id, **fields)
    seen: list[AgentTask] = []

    def asks() -> bool:
        seen.append(hook.get_task(task.task_id, task.agent_id))
        return seen[-1].status is TaskState.AWAITING_INPUT

    assert wait_until(asks, timeout=20)
    name = f"asked_{task.service}"
    (question,) = RECORDS[name]["questions"]
    old_id, own = question["fingerprint"], {**question, "text": seen[-1].question}
    own["fingerprint"] = build_fingerprint(seen[-1])
    write_record(context, {**RECORDS[name], "questions": [own]}, task)
    form = json.loads(json.dumps(FORMS[name]).replace(old_id, own["fingerprint"]))
    upsert_hitl_detail(
        context["ti"].id, form["options"], form["subject"], form["body"], params=form["params"]
    )
    row = RESUMES[f"parked_{task.service}"]
    question_id = row["next_kwargs"]["question_id"].replace(old_id, own["fingerprint"])
    raise TaskAwaitingInput(
        method_name=row["next_method"], kwargs={"question_id": question_id}, timeout=timedelta(seconds=60)
    )


def write_record(context: Any, record: dict[str, Any], task: AgentTask) -> None:
    """Store a record of 0.1.0 as one of this agent task, and of this try."""
    ids = {"task_id": task.task_id, "agent_id": task.agent_id, "submitted_at": time.time()}
    context["task_state_store"].set(RECORD_KEY, {**record, **ids, "max_tries": context["ti"].max_tries})


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_stored_trigger_is_made_again(name: str) -> None:
    classpath, kwargs = TRIGGERS[name]["classpath"], TRIGGERS[name]["kwargs"]
    assert import_string(classpath)(**kwargs).serialize() == (classpath, kwargs)


@pytest.mark.parametrize("name", [name for name, row in RESUMES.items() if row["next_method"] != "__fail__"])
@pytest.mark.parametrize("kind", [LightconeTaskOperator, ShinzoTaskOperator])
def test_what_a_task_is_resumed_with_is_taken(name: str, kind: type[AgentTaskOperator]) -> None:
    row = RESUMES[name]
    method = signature(getattr(kind, row["next_method"]))
    method.bind(None, {}, **{"event": None, **row["next_kwargs"]})
    if row["next_method"] == "execute_complete":
        # As 0.1.0 defers while it is open what happens to a question.
        method.bind(None, {}, event=None, is_asked=True)


def test_a_deferral_that_timed_out_is_told_from_a_failure() -> None:
    operator = LightconeTaskOperator(task_id="agent", instruction="Look.")
    ti = SimpleNamespace(
        **{"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": -1, "try_number": 1},
        **{"max_tries": 0, "start_date": timezone.utcnow(), "id": "id", "log_url": "", "xcom_push": None},
    )
    context: Any = {"ti": ti, "task_state_store": {}}
    with pytest.raises(AgentTaskError, match="No triggerer reported the end of the wait in time"):
        operator.resume_execution(**RESUMES["no_triggerer_lightcone"], context=context)


def test_a_deferred_sensor_is_resumed(run_dag: Any) -> None:
    run = run_dag(
        f"""
        {LEAVE}
        class Old(AgentTaskSensor):
            def execute(self, context):
                leave_sensor(self, context)

        {start("lightcone", '#sandbox {"steps": 4, "step_seconds": 0.2}')}
        {then("lightcone", "Old(task_id='agent', TARGET)")}
        """
    )
    assert (run.state, run.xcom("agent")["status"]) == ("success", "completed")


@pytest.mark.parametrize("options", ["", "_options"], ids=["plain", "options"])
@BOTH_SERVICES
def test_a_deferred_task_is_resumed(run_dag: Any, agent_task_sandbox: Any, kind: str, options: str) -> None:
    service = "lightcone" if kind.startswith("Lightcone") else "shinzo"
    task = ask(kind=kind, deferrable=True).replace(kind, "Old", 1)
    run = run_dag(
        f"""
        {LEAVE}
        class Old({kind}):
            def execute(self, context):
                leave_deferred(self, context, "{service}{options}")

        {task}
        """
    )
    assert (run.state, run.tries("agent")) == ("success", 1)
    (agent,) = agent_task_sandbox.tasks()
    assert run.xcom("agent")["task_id"] == agent["task_id"]


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])
@BOTH_SERVICES
def test_the_answer_to_a_form_reaches_the_agent_once(
    run_with_person: Any, agent_task_sandbox: Any, kind: str, deferrable: bool
) -> None:
    task = ask("Which one?", "Sure?", kind=kind, deferrable=deferrable).replace(kind, "Old", 1)
    run, forms = run_with_person(
        f"""
        {LEAVE}
        class Old({kind}):
            def execute(self, context):
                leave_parked(self, context)

        {task}
        """,
        ["One.", "Yes."],
    )
    assert (run.state, run.tries("agent")) == ("success", 1)
    assert heard(agent_task_sandbox) == ["One.", "Yes."]
    # The first form is that of 0.1.0.
    assert [("What it works on:" in form["body"], "Who may answer" in form["body"]) for form in forms] == [
        (True, False),
        (False, True),
    ]
    assert [form["subject"] for form in forms] == ["Question 1: Which one?", "Question 2: Sure?"]
    answers = run.xcom("agent", "answers")
    assert [(answer["number"], answer["reply"], answer["sent"]) for answer in answers] == [
        (1, "One.", True),
        (2, "Yes.", True),
    ]
