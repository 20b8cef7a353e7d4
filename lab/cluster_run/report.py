"""The tables of ``make cluster``."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.percentile import describe, percentile
from lab.cluster_run.cost import AIRFLOW_KINDS, OTHER_KINDS, Cost
from lab.cluster_run.verdict import Verdict

COMPARED = ("agent task", "sleeping task", "times")
#: The most numbers of tasks that a cell of the table names.
LONGEST_LIST = 10


def print_verdict(title: str, planned: int, verdict: Verdict) -> None:
    """
    Print what became of the agents.

    :param planned: The number of planned tasks.
    """
    bounds = verdict.bounds
    limit = "no limit" if bounds.limit is None else f"limit {bounds.limit}"
    planned_failures = {"429": 0, **bounds.failures}
    rows = [
        ("Airflow tasks", planned),
        ("agents submitted", verdict.submitted),
        ("duplicates", describe_numbers(verdict.duplicates)),
        ("left running", describe_numbers(verdict.left_running)),
        ("results lost", describe_numbers(verdict.lost)),
        ("answers lost or repeated", describe_numbers(verdict.misanswered)),
        ("wrong ends", describe_numbers(verdict.wrong_ends)),
        (
            f"failed, because Shinzo's start was uncertain, at most {bounds.uncertain}",
            describe_numbers(verdict.uncertain),
        ),
        *(
            (f"most agents of {service} at once, {limit}", most)
            for service, most in verdict.most_at_once.items()
        ),
        (f"kills and outages, planned {bounds.disturbances}", verdict.disturbances),
        *(
            (
                f"requests {'without a response' if status == 'None' else f'answered with {status}'}, "
                f"planned {count}",
                verdict.responses[status],
            )
            for status, count in planned_failures.items()
        ),
        ("seconds from the agent's end to the task's, p50 / p99 / max", describe(verdict.delays, 1)),
    ]
    print_table(title, ("what", "count"), rows)


def describe_numbers(numbers: Sequence[int]) -> str:
    """Return how many tasks there are, and the numbers of the first of them."""
    if not numbers:
        return "0"
    more = " …" if len(numbers) > LONGEST_LIST else ""
    return f"{len(numbers)} (tasks {', '.join(map(str, numbers[:LONGEST_LIST]))}{more})"


def print_cost(agents: Cost, sleepers: Cost, heartbeat_interval: float) -> None:
    """
    Print what an agent task costs, beside a task that only sleeps as long.

    :param heartbeat_interval: ``[workers] min_heartbeat_interval`` in seconds: a worker that misses the exit
        of a task's process notices it only after this time.
    """
    print_table(
        "CPU seconds per task, of each component with all that it starts",
        ("component", *COMPARED),
        list_cpu_rows(agents, sleepers),
    )
    rows = [
        list_slot_row("until deferred", agents.slots.first, sleepers.slots.first, heartbeat_interval),
        list_slot_row("resume", agents.slots.later, sleepers.slots.later, heartbeat_interval),
    ]
    detail = f"mean, p50 / p99 / max, share of at least {heartbeat_interval:g} s, p50 of the others"
    headings = ("execution", *COMPARED, f"agent task {detail}", f"sleeping task {detail}")
    print_table("Seconds in a slot of a worker (medians)", headings, rows)
    counts = [
        ("to the API servers", agents.api_requests, sleepers.api_requests),
        ("to the service", agents.service_requests, sleepers.service_requests),
    ]
    rows = [
        list_row(name, ours.total() / agents.tasks, peers.total() / sleepers.tasks, digits=1)
        for name, ours, peers in counts
    ]
    print_table("Requests per task", ("destination", *COMPARED), rows)
    kinds = sorted(agents.api_requests | sleepers.api_requests)
    rows = [
        list_row(
            f"`{kind}`",
            agents.api_requests[kind] / agents.tasks,
            sleepers.api_requests[kind] / sleepers.tasks,
        )
        for kind in kinds
    ]
    print_table("Requests to the API servers per task", ("request", *COMPARED), rows)
    rows = [
        list_row(f"`{table}`", agents.rows[table] / agents.tasks, sleepers.rows[table] / sleepers.tasks)
        for table in sorted(agents.rows | sleepers.rows)
    ]
    print_table("Rows per task that are left in Airflow's database", ("table", *COMPARED), rows)
    most = [(kind, agents.connections[kind], sleepers.connections[kind]) for kind in AIRFLOW_KINDS]
    title = "Connections to the database at the same time, at most"
    print_table(title, ("component", "agent tasks", "sleeping tasks"), most)


def list_cpu_rows(agents: Cost, sleepers: Cost) -> list[tuple[str, ...]]:
    """Return a row for each component, and one for all of Airflow."""

    def list_kinds(name: str, kinds: Sequence[str]) -> tuple[str, ...]:
        ours, peers = (sum(cost.cpu[kind] for kind in kinds) / cost.tasks for cost in (agents, sleepers))
        return list_row(name, ours, peers)

    return [
        *(list_kinds(kind, [kind]) for kind in AIRFLOW_KINDS),
        list_kinds("**all of Airflow**", AIRFLOW_KINDS),
        *(list_kinds(kind, [kind]) for kind in OTHER_KINDS),
    ]


def list_slot_row(
    name: str, agents: Sequence[float], sleepers: Sequence[float], heartbeat_interval: float
) -> tuple[str, ...]:
    """Return the medians and their ratio, and how the times are distributed."""
    medians = list_row(name, percentile(agents, 0.5), percentile(sleepers, 0.5))
    return *medians, *(describe_slots(seconds, heartbeat_interval) for seconds in (agents, sleepers))


def describe_slots(seconds: Sequence[float], heartbeat_interval: float) -> str:
    """Return how the times are distributed, the share that may be missed exits, and the others' median."""
    others = [value for value in seconds if value < heartbeat_interval]
    late = 1 - len(others) / max(len(seconds), 1)
    average = fmean(seconds) if seconds else float("nan")
    return f"{average:.1f}, {describe(seconds, 1)}, {late:.0%}, {percentile(others, 0.5):.1f}"


def list_row(name: str, agent: float, sleeper: float, *, digits: int = 2) -> tuple[str, ...]:
    """Return two numbers and their ratio as text."""
    times = f"{agent / sleeper:.2f}" if sleeper else "-"
    return name, f"{agent:.{digits}f}", f"{sleeper:.{digits}f}", times
