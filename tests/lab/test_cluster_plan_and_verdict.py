"""The run on two of each component: what is planned, and how what happened is judged."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.lifecycle import attach_or_submit
from airflow_agent_tasks.sandbox.script import read_script
from airflow_agent_tasks.services.http import MAY_HAVE_ACTED
from lab.cluster_run.airflow_rows import AirflowTask
from lab.cluster_run.dags import AGENT_DAG, LIMITED, SLEEP_DAG, build_agent_dag, build_sleep_dag
from lab.cluster_run.plan import (
    KINDS,
    ORDINARY,
    SERVICES,
    PlannedTask,
    find_number,
    plan_tasks,
    read_number,
    split_plan,
)
from lab.cluster_run.verdict import (
    UNCERTAIN,
    Agent,
    Bounds,
    Verdict,
    count_most_at_once,
    judge,
    read_agent,
)

PLAN = plan_tasks(20, 10.0)
ORDINARY_SHINZO, ASKING_SHINZO, FAILING_LIGHTCONE, FAILING_SHINZO = PLAN[1], PLAN[3], PLAN[6], PLAN[7]


def build_agent(planned: PlannedTask, *, created_at: float = 100.0, **changes: Any) -> Agent:
    """An agent that did what was planned."""
    has_failed = planned.kind.end == "failed"
    agent = Agent(
        planned.number,
        f"tsk_{planned.number}",
        "failed" if has_failed else "completed",
        created_at,
        created_at + 10.0,
        (planned.reply,) if planned.kind.name == "asking" else (),
    )
    return replace(agent, **changes)


def build_airflow_task(planned: PlannedTask, **changes: Any) -> AirflowTask:
    """An Airflow task that ended as planned."""
    value = {"task_id": f"tsk_{planned.number}", "status": "completed", "result": planned.result}
    error = f"agent task tsk_{planned.number} (status failed, exit code 3) did not succeed."
    xcoms = {"error": error} if planned.kind.end == "failed" else {"return_value": value}
    return replace(AirflowTask(planned.number, planned.kind.end, 1, 112.0, xcoms), **changes)


def build_agents(planned: PlannedTask) -> list[Agent]:
    """The agents of a task that did what was planned."""
    if planned != FAILING_SHINZO:
        return [build_agent(planned)]
    first = build_agent(planned, task_id="tsk_first", created_at=80.0)
    return [first, build_agent(planned)]


def judge_one(
    planned: PlannedTask, agents: list[Agent], task: AirflowTask | None = None, **bounds: Any
) -> Verdict:
    return judge([planned], agents, [task or build_airflow_task(planned)], {}, Bounds(**bounds))


def test_each_service_gets_each_kind_and_the_sandbox_understands_each_script() -> None:
    counts = Counter((task.service, task.kind.name) for task in plan_tasks(len(KINDS) * 2, 10.0))
    assert counts == {
        (service, name): count
        for service in SERVICES
        for name, count in Counter(kind.name for kind in KINDS).items()
    }
    for task in PLAN:
        script = read_script(task.instruction)
        assert script.steps * script.step_seconds == pytest.approx(10.0 * task.kind.duration)
        assert (script.final_exit_code != 0) is (task.kind.end == "failed")


def test_the_number_of_a_task_is_in_its_instruction_and_follows_from_its_map_index() -> None:
    indices: Counter[str] = Counter()
    for task in PLAN:
        assert read_number(task.instruction) == task.number
        assert find_number(task.service, indices[task.service]) == task.number
        indices[task.service] += 1
    with pytest.raises(ValueError, match="not the instruction of a planned task"):
        read_number("Buy milk.")


@pytest.mark.parametrize(("count", "sizes"), [(20, [10, 10]), (1000, [500, 500]), (6, [4, 2]), (0, [0, 0])])
def test_each_part_of_a_plan_begins_with_the_first_service(count: int, sizes: list[int]) -> None:
    plan = plan_tasks(count, 10.0)
    parts = split_plan(plan, 2)
    assert [len(part) for part in parts] == sizes
    assert [task for part in parts for task in part] == plan
    assert all(part[0].service == SERVICES[0] for part in parts if part)


def test_the_sources_of_the_dags_map_the_planned_tasks_of_each_service() -> None:
    plan = plan_tasks(5, 10.0, [ORDINARY])
    agents, sleepers = build_agent_dag(AGENT_DAG, plan), build_sleep_dag(SLEEP_DAG, plan)
    compile(agents, AGENT_DAG, "exec")
    compile(sleepers, SLEEP_DAG, "exec")
    assert all(repr(task.instruction) in agents for task in plan)
    assert repr({"lightcone": [10.0] * 3, "shinzo": [10.0] * 2}) in sleepers
    assert "conn_id='shinzo_limited'" in build_agent_dag(AGENT_DAG, plan, LIMITED)


def test_an_agent_is_read_from_what_the_sandbox_says() -> None:
    task = {
        "request": {"message": PLAN[3].instruction},
        "task_id": "tsk_3",
        "status": "completed",
        "created_at": 100.0,
        "ended_at": 110.0,
        "messages": [{"time": 105.0, "message": "Number 3."}],
    }
    assert read_agent(task) == build_agent(ASKING_SHINZO)
    assert read_agent({**task, "request": {"instruction": PLAN[3].instruction}}).number == 3


def test_what_went_as_planned_is_right() -> None:
    agents = [agent for task in PLAN for agent in build_agents(task)]
    tasks = [build_airflow_task(task) for task in PLAN]
    bounds = Bounds(limit=10, disturbances=2, failures={"429": 3, "None": 1})
    requests = {"GET /agent/tasks/{id}/status 429": 2, "POST /agent/tasks 429": 1, "GET /agent None": 2}
    verdict = judge(PLAN, agents, tasks, requests, bounds, disturbances=2)
    assert verdict == Verdict(
        bounds,
        submitted=21,
        most_at_once={"lightcone": 10, "shinzo": 10},
        delays=[2.0] * 20,
        disturbances=2,
        responses=Counter({"429": 3, "None": 2}),
    )
    assert verdict.is_right


@pytest.mark.parametrize(
    ("bounds", "requests"),
    [
        pytest.param({"limit": 0}, {}, id="more agents than the limit"),
        pytest.param({"disturbances": 1}, {}, id="a kill that never happened"),
        pytest.param({"failures": {"503": 2}}, {"GET /agent 503": 1}, id="an outage that never happened"),
        pytest.param({"failures": {"429": 2}}, {"GET /agent 429": 3}, id="refused more often than planned"),
        pytest.param({}, {"GET /agent 429": 1}, id="refused although nothing was planned"),
    ],
)
def test_a_run_that_leaves_its_bounds_is_not_right(bounds: dict[str, Any], requests: dict[str, int]) -> None:
    task = build_airflow_task(ORDINARY_SHINZO)
    assert judge_one(ORDINARY_SHINZO, [build_agent(ORDINARY_SHINZO)], task).is_right
    verdict = judge([ORDINARY_SHINZO], [build_agent(ORDINARY_SHINZO)], [task], requests, Bounds(**bounds))
    assert not verdict.is_right


def test_a_second_agent_is_a_duplicate_unless_the_first_had_failed() -> None:
    first = build_agent(ORDINARY_SHINZO, task_id="tsk_first")
    later = build_agent(ORDINARY_SHINZO, created_at=120.0)
    ended = build_airflow_task(ORDINARY_SHINZO, ended_at=140.0)
    assert judge_one(ORDINARY_SHINZO, [first, later], ended).duplicates == [1]
    failed = replace(first, status="failed")
    assert judge_one(ORDINARY_SHINZO, [failed, later], ended).is_right
    beside = replace(failed, ended_at=120.5)
    assert judge_one(ORDINARY_SHINZO, [beside, later], ended).duplicates == [1]


@pytest.mark.parametrize("changes", [{"status": "running", "ended_at": None}, {"ended_at": 112.5}])
def test_an_agent_that_works_on_after_its_task_is_left_running(changes: dict[str, Any]) -> None:
    assert judge_one(ORDINARY_SHINZO, [build_agent(ORDINARY_SHINZO, **changes)]).left_running == [1]


def test_a_paused_agent_is_not_left_running() -> None:
    paused = build_agent(PLAN[0], status="paused", ended_at=None)
    assert judge_one(PLAN[0], [paused]).left_running == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"task_id": "tsk_other", "status": "completed", "result": {"number": 1}},
        {"task_id": "tsk_1", "status": "running", "result": {"number": 1}},
        {"task_id": "tsk_1", "status": "completed", "result": None},
    ],
)
def test_a_result_that_is_not_that_of_the_last_agent_is_lost(value: Any) -> None:
    task = build_airflow_task(ORDINARY_SHINZO, xcoms={"return_value": value})
    assert judge_one(ORDINARY_SHINZO, [build_agent(ORDINARY_SHINZO)], task).lost == [1]


def test_a_failure_without_a_reason_is_lost() -> None:
    task = build_airflow_task(FAILING_LIGHTCONE, xcoms={})
    assert judge_one(FAILING_LIGHTCONE, [build_agent(FAILING_LIGHTCONE)], task).lost == [6]


@pytest.mark.parametrize(
    ("changes", "error"),
    [({}, "The plugin does not answer."), ({"status": "cancelled"}, "agent task tsk_6 did not succeed.")],
)
def test_a_failure_for_another_reason_than_the_planned_one_is_lost(
    changes: dict[str, Any], error: str
) -> None:
    task = build_airflow_task(FAILING_LIGHTCONE, xcoms={"error": error})
    assert judge_one(FAILING_LIGHTCONE, [build_agent(FAILING_LIGHTCONE, **changes)], task).lost == [6]


def test_a_failing_agent_is_started_again_only_where_that_can_help() -> None:
    first = build_agent(FAILING_LIGHTCONE, task_id="tsk_first", created_at=80.0)
    assert judge_one(FAILING_LIGHTCONE, [first, build_agent(FAILING_LIGHTCONE)]).wrong_ends == [6]
    assert judge_one(FAILING_SHINZO, [build_agent(FAILING_SHINZO)]).wrong_ends == [7]
    many = [
        build_agent(FAILING_SHINZO, task_id=f"tsk_{number}", created_at=-20.0 * number)
        for number in range(6, 0, -1)
    ]
    assert judge_one(FAILING_SHINZO, [*many[1:], build_agent(FAILING_SHINZO)]).is_right
    assert judge_one(FAILING_SHINZO, [*many, build_agent(FAILING_SHINZO)]).wrong_ends == [7]


@pytest.mark.parametrize("received", [(), ("Number 3.", "Number 3."), ("Number 4.",)])
def test_an_answer_must_arrive_exactly_once(received: tuple[str, ...]) -> None:
    assert judge_one(ASKING_SHINZO, [build_agent(ASKING_SHINZO, messages=received)]).misanswered == [3]


@pytest.mark.parametrize("state", ["success", "skipped", None])
def test_another_end_than_the_planned_one_is_wrong(state: str | None) -> None:
    task = build_airflow_task(FAILING_SHINZO, state=state)
    verdict = judge_one(FAILING_SHINZO, build_agents(FAILING_SHINZO), task)
    assert (verdict.wrong_ends, verdict.is_right) == ([7], False)


def test_a_task_that_is_missing_has_not_ended_as_planned() -> None:
    assert judge([ORDINARY_SHINZO], [], [], {}, Bounds()).wrong_ends == [1]


@pytest.mark.parametrize("planned", [ORDINARY_SHINZO, FAILING_SHINZO])
@pytest.mark.parametrize("reason", UNCERTAIN)
def test_a_start_that_nobody_can_know_about_is_counted_apart(planned: PlannedTask, reason: str) -> None:
    task = build_airflow_task(planned, state="failed", xcoms={"error": f"Could not start. {reason}"})
    running = build_agent(planned, status="running", ended_at=None)
    verdict = judge_one(planned, [running], task, uncertain=1)
    assert (verdict.uncertain, verdict.left_running, verdict.wrong_ends) == ([planned.number], [], [])
    assert verdict.most_at_once == {"lightcone": 0, "shinzo": 0}
    assert verdict.is_right
    assert not judge_one(planned, [running], task).is_right
    beside = build_agent(planned, created_at=90.0, status="running", ended_at=None)
    verdict = judge_one(planned, [beside, running], task)
    assert (verdict.duplicates, verdict.left_running) == ([planned.number], [planned.number])


def test_a_start_with_an_idempotency_key_is_never_uncertain() -> None:
    task = build_airflow_task(PLAN[0], state="failed", xcoms={"error": MAY_HAVE_ACTED})
    verdict = judge_one(PLAN[0], [build_agent(PLAN[0])], task)
    assert (verdict.uncertain, verdict.wrong_ends) == ([], [0])


def test_what_marks_an_uncertain_start_is_what_the_package_says() -> None:
    source = inspect.getsource(attach_or_submit)
    assert "has no idempotency keys, so a second start could do the work twice" in source


def test_agents_are_at_work_together_from_the_start_of_each_to_its_end() -> None:
    times = [(0.0, 10.0), (5.0, 15.0), (10.0, None), (12.0, 14.0)]
    agents = [
        Agent(number, f"tsk_{number}", "completed", created_at, ended_at)
        for number, (created_at, ended_at) in enumerate(times)
    ]
    assert count_most_at_once(agents) == 3
    assert count_most_at_once(agents[:3]) == 2
    assert count_most_at_once([]) == 0
