"""How many agents run at once: through a real scheduler, workers, an API server and a triggerer."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from lab.cluster.airflow_environment import QUICK_RECOVERY
from lab.cluster.processes import wait_until

DAG = """
from datetime import timedelta

from airflow.sdk import DAG
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

with DAG({dag_id!r}, schedule=None):
    LightconeTaskOperator.partial(
        task_id="agent",
        conn_id="lightcone_limited",
        poll_interval=1,
        deferrable={deferrable},
        retries=3,
        retry_delay=timedelta(seconds=1),
    ).expand(instruction=['#sandbox {{"steps": 2, "step_seconds": 1}}'] * {count})
"""
#: Airflow's own limits: a pool, for an agent that works, and a number for the DAG, for one that asks.
AIRFLOW_DAG = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

WORKS = '#sandbox {"steps": 2, "step_seconds": 1}'
ASKS = '#sandbox {"steps": 2, "step_seconds": 1, "ask": ["Really?"]}'

with DAG("airflows_own", schedule=None):
    waits = {"deferrable": True, "poll_interval": 1}
    ShinzoTaskOperator.partial(task_id="in_pool", pool="agents", **waits).expand(message=[WORKS] * 4)
    ShinzoTaskOperator.partial(task_id="of_dag", max_active_tis_per_dag=2, **waits).expand(message=[ASKS] * 4)
"""
#: The triggerer has room for the agents of one connection and one more, not for all that wait.
SETTINGS = {**QUICK_RECOVERY, "AIRFLOW__TRIGGERER__CAPACITY": "3"}
#: The second one waits on its workers; both have more tasks than there are slots.
DAGS = {
    "first.py": DAG.format(dag_id="first", deferrable=True, count=6),
    "second.py": DAG.format(dag_id="second", deferrable=False, count=3),
    "airflows_own.py": AIRFLOW_DAG,
}
LIMIT = 2


def count_most_at_once(tasks: Sequence[dict[str, Any]]) -> int:
    changes = sorted([(task["created_at"], 1) for task in tasks] + [(task["ended_at"], -1) for task in tasks])
    return max(sum(change for _, change in changes[: index + 1]) for index in range(len(changes)))


def list_agents(sandbox: Any, service: str) -> list[dict[str, Any]]:
    return [task for task in sandbox.tasks() if task["service"] == service]


def test_the_tasks_of_two_dags_share_the_limit_and_a_lost_worker_costs_no_slot(
    cluster: Any, sandbox: Any
) -> None:
    connection = {
        "connection_id": "lightcone_limited",
        "conn_type": "lightcone",
        "host": sandbox.url,
        "password": "sk_sandbox",
        "extra": f'{{"max_concurrent_tasks": {LIMIT}}}',
    }
    cluster.api.request("POST", "/connections", body=connection)
    runs = {dag_id: cluster.api.trigger(dag_id) for dag_id in ("first", "second")}
    assert wait_until(lambda: len(list_agents(sandbox, "lightcone")) > LIMIT, timeout=120), (
        "nobody got a slot that was free"
    )
    # With its workers, which run or wait for an agent.
    cluster.programs["scheduler"].send_signal(signal.SIGKILL)
    assert cluster.programs["scheduler"].wait(timeout=10) == -signal.SIGKILL
    cluster.stop_program("scheduler", grace=0)
    cluster.start_component("scheduler")
    for dag_id, run_id in runs.items():
        assert cluster.wait_for_run(dag_id, run_id, timeout=400) == "success"
    agents = list_agents(sandbox, "lightcone")
    assert [agent["status"] for agent in agents] == ["completed"] * 9
    assert count_most_at_once(agents) == LIMIT


def test_airflows_own_limits_hold_too(cluster: Any, sandbox: Any) -> None:
    pool = {"name": "agents", "slots": LIMIT, "include_deferred": True}
    cluster.api.request("POST", "/pools", body=pool)
    run_id = cluster.api.trigger("airflows_own")

    def answer_until_the_end() -> bool:
        for form in cluster.api.list_questions("airflows_own"):
            cluster.api.answer(form, "Yes.")
        return cluster.api.read_run_state("airflows_own", run_id) in ("success", "failed")

    assert wait_until(answer_until_the_end, timeout=400)
    assert cluster.api.read_run_state("airflows_own", run_id) == "success"
    agents = list_agents(sandbox, "shinzo")
    for is_asking in (False, True):
        own = [agent for agent in agents if ("Really?" in str(agent["request"])) is is_asking]
        assert [agent["status"] for agent in own] == ["completed"] * 4
        assert count_most_at_once(own) == LIMIT
