"""What became of the agents: started twice, left running, lost, or ended otherwise than planned. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from airflow_agent_tasks.services.http import MAY_HAVE_ACTED
from lab.cluster_run.airflow_rows import AirflowTask
from lab.cluster_run.dags import RETRIES
from lab.cluster_run.plan import ASKING, FAILING, SERVICES, PlannedTask, read_number

#: What the errors say if nobody can know whether a start arrived: after a lost response, and after a lost
#: worker.
UNCERTAIN = (MAY_HAVE_ACTED, "has no idempotency keys, so a second start could do the work twice")
#: The states in which an agent no longer works; a pause is how Lightcone's agents are stopped.
STOPPED = frozenset({"completed", "failed", "cancelled", "paused"})


@dataclass(frozen=True)
class Agent:
    """
    One agent task on the service.

    :param number: The number of its planned task.
    :param task_id: Its id.
    :param status: The service's word for its state.
    :param created_at: When it was submitted, in seconds since 1970.
    :param ended_at: When it ended, or None.
    :param messages: The messages that it received.
    """

    number: int
    task_id: str
    status: str
    created_at: float
    ended_at: float | None
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bounds:
    """
    What a run allows and has to contain.

    :param limit: The most agents of each service at the same time. Default None: no limit.
    :param uncertain: The most tasks whose start may be uncertain. Default 0.
    :param disturbances: How many kills and outages have to be over before the last task ends. Default 0.
    :param failures: How many requests the run itself lets fail, by the status in the sandbox's log. Default:
        none.
    """

    limit: int | None = None
    uncertain: int = 0
    disturbances: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Verdict:
    """
    The result of a run; each list names the tasks by their numbers.

    :param bounds: What the run allows.
    :param submitted: The number of agents that were started.
    :param duplicates: Agents that were started although an earlier one of the same task had not failed.
    :param left_running: Agents that worked on after the end of their Airflow task.
    :param lost: Tasks whose end is right, but whose result or error is not in XCom.
    :param misanswered: Tasks whose agent did not receive its answer exactly once.
    :param wrong_ends: Tasks that did not end as planned.
    :param uncertain: Tasks of Shinzo that failed because nobody can know whether their start arrived.
    :param most_at_once: The largest number of agents at the same time, by service; without those of
        ``uncertain`` tasks, which Airflow does not know.
    :param delays: Seconds from the end of an agent to that of its Airflow task.
    :param disturbances: How many kills and outages were over.
    :param responses: The number of requests to the service, by status.
    """

    bounds: Bounds = field(default_factory=Bounds)
    submitted: int = 0
    duplicates: list[int] = field(default_factory=list)
    left_running: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    misanswered: list[int] = field(default_factory=list)
    wrong_ends: list[int] = field(default_factory=list)
    uncertain: list[int] = field(default_factory=list)
    most_at_once: dict[str, int] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    disturbances: int = 0
    responses: Counter[str] = field(default_factory=Counter)

    @property
    def is_right(self) -> bool:
        """True if nothing went wrong, and all that was to be disturbed was."""
        faults = (self.duplicates, self.left_running, self.lost, self.misanswered, self.wrong_ends)
        return not any(faults) and self._is_within_bounds

    @property
    def _is_within_bounds(self) -> bool:
        bounds = self.bounds
        return (
            (bounds.limit is None or max(self.most_at_once.values()) <= bounds.limit)
            and len(self.uncertain) <= bounds.uncertain
            and self.disturbances == bounds.disturbances
            and all(self.responses[status] >= count for status, count in bounds.failures.items())
            and self.responses["429"] == bounds.failures.get("429", 0)
        )


def read_agent(task: Mapping[str, Any]) -> Agent:
    """Return an agent task from what the sandbox says about it."""
    request = task["request"]
    return Agent(
        read_number(request.get("instruction") or request["message"]),
        task["task_id"],
        task["status"],
        task["created_at"],
        task["ended_at"],
        tuple(message["message"] for message in task["messages"]),
    )


def judge(
    plan: Sequence[PlannedTask],
    agents: Sequence[Agent],
    airflow_tasks: Sequence[AirflowTask],
    requests: Mapping[str, int],
    bounds: Bounds,
    *,
    disturbances: int = 0,
) -> Verdict:
    """
    Compare what happened with the plan.

    :param plan: The planned tasks.
    :param agents: All agents, the oldest first.
    :param airflow_tasks: All Airflow tasks; one that is missing has not ended as planned.
    :param requests: The requests to the service, by method, path and status.
    :param bounds: What the run allows.
    :param disturbances: How many kills and outages were over. Default 0.
    """
    verdict = Verdict(bounds, len(agents), disturbances=disturbances)
    for request, count in requests.items():
        verdict.responses[request.rpartition(" ")[2]] += count
    by_number: dict[int, list[Agent]] = defaultdict(list)
    for agent in agents:
        by_number[agent.number].append(agent)
    found = {task.number: task for task in airflow_tasks}
    for planned in plan:
        task = found.get(planned.number) or AirflowTask(planned.number, None, 0, None)
        judge_task(verdict, planned, by_number[planned.number], task)
    known = [agent for agent in agents if agent.number not in verdict.uncertain]
    for index, service in enumerate(SERVICES):
        of_service = [agent for agent in known if agent.number % len(SERVICES) == index]
        verdict.most_at_once[service] = count_most_at_once(of_service)
    return verdict


def judge_task(verdict: Verdict, planned: PlannedTask, agents: Sequence[Agent], task: AirflowTask) -> None:
    """Add what became of one task to the verdict."""
    number = planned.number
    verdict.duplicates += [
        number for earlier, later in pairwise(agents) if not has_failed_before(earlier, later.created_at)
    ]
    has_uncertain_start = is_uncertain(planned, task)
    known = agents[:-1] if has_uncertain_start else agents
    verdict.left_running += [number for agent in known if is_left_running(agent, task)]
    if has_uncertain_start:
        # The package promises for a service without idempotency keys that it says so, and starts no second.
        verdict.uncertain.append(number)
        return
    if task.state != planned.kind.end or (planned.kind is FAILING and not is_tried_enough(planned, agents)):
        verdict.wrong_ends.append(number)
    elif not agents or not is_delivered(planned, agents[-1], task):
        verdict.lost.append(number)
    if planned.kind is ASKING and [list(agent.messages) for agent in agents] != [[planned.reply]]:
        verdict.misanswered.append(number)
    if agents and agents[-1].ended_at and task.ended_at:
        verdict.delays.append(task.ended_at - agents[-1].ended_at)


def is_uncertain(planned: PlannedTask, task: AirflowTask) -> bool:
    """Return True if a task failed because nobody can know whether its start arrived."""
    error = str(task.xcoms.get("error"))
    return planned.service == "shinzo" and task.state == "failed" and any(text in error for text in UNCERTAIN)


def is_tried_enough(planned: PlannedTask, agents: Sequence[Agent]) -> bool:
    """Return True if a failing agent was started once where a retry cannot help, and more often elsewhere."""
    if planned.service == "lightcone":  # see no_retry_on_exit_code in its DAG
        return len(agents) == 1
    # The kill of a worker may cost a task a try.
    return 1 < len(agents) <= 1 + RETRIES


def has_failed_before(agent: Agent, moment: float) -> bool:
    """Return True if an agent had failed before a moment, so that a retry may start another."""
    return agent.status == "failed" and agent.ended_at is not None and agent.ended_at <= moment


def is_left_running(agent: Agent, task: AirflowTask) -> bool:
    """Return True if an agent works, or worked on after the end of its Airflow task."""
    if agent.ended_at is None:
        return agent.status not in STOPPED
    return task.ended_at is not None and agent.ended_at > task.ended_at


def is_delivered(planned: PlannedTask, agent: Agent, task: AirflowTask) -> bool:
    """Return True if the result of a task's last agent, or why it failed, is in XCom."""
    if task.state == "failed":
        return agent.status == "failed" and agent.task_id in str(task.xcoms.get("error"))
    value = task.xcoms.get("return_value") or {}
    delivered = (value.get("task_id"), value.get("status"), value.get("result"))
    return delivered == (agent.task_id, "completed", planned.result)


def count_most_at_once(agents: Sequence[Agent]) -> int:
    """Return the largest number of agents between their submission and their end at the same time."""
    # At the same moment, an end comes before a start.
    changes = sorted(
        [(agent.created_at, 1) for agent in agents]
        + [(agent.ended_at, -1) for agent in agents if agent.ended_at is not None]
    )
    count = most = 0
    for _, change in changes:
        count += change
        most = max(most, count)
    return most
