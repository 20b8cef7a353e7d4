"""What breaks during the run: one of each component, and the service, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lab.cluster.celery_cluster import CeleryCluster
from lab.cluster_run.service import Service
from lab.command_line import log_progress

#: The last disturbance comes when this share of the tasks has ended: it takes a while until it is over.
LAST_SHARE = 0.85
#: Every request but one that starts an agent on Shinzo, which cannot be repeated.
REPEATABLE = r"^/agent/(?!request/[^/]+$)"


class Progress(Protocol):
    """
    The state of the run.

    :param ended: The share of the tasks that have ended, from 0 to 1.
    :param deferred: The number of tasks that a triggerer waits for.
    """

    @property
    def ended(self) -> float: ...
    @property
    def deferred(self) -> int: ...
    def is_busy(self, name: str) -> bool:
        """Return True if a component has something to lose."""


@dataclass(frozen=True)
class Kill:
    """
    SIGKILL one component with everything that it started, and start it again.

    :param name: The component.
    """

    name: str

    def is_due(self, progress: Progress) -> bool:
        """Return True if the component has something to lose."""
        return progress.is_busy(self.name)

    def steps(self, cluster: CeleryCluster, service: Service) -> Generator[None, None, None]:
        """Kill it, start it, and wait until it works."""
        log_progress(f"Killing {self.name}, and starting it again.")
        cluster.stop_program(self.name, grace=0)
        cluster.start_component(self.name)
        while not cluster.is_ready(self.name):
            yield
        log_progress(f"{self.name} works again.")


@dataclass(frozen=True)
class Outage:
    """
    The service fails to answer the next requests.

    :param name: How, for the log.
    :param rule: The sandbox's rule.
    """

    name: str
    rule: dict[str, Any]

    def is_due(self, progress: Progress) -> bool:
        """Return True if there are requests to come."""
        return progress.deferred > 0

    def steps(self, cluster: CeleryCluster, service: Service) -> Generator[None, None, None]:
        """Let it begin; it ends by itself."""
        log_progress(f"The service answers the next {self.rule['times']} requests {self.name}.")
        service.fail(self.rule)
        yield from ()


DISTURBANCES: tuple[Kill | Outage, ...] = (
    Outage("with 429", {"status": 429, "headers": {"Retry-After": "3"}, "times": 20}),
    Kill("worker-2"),
    Outage("with 503", {"path": REPEATABLE, "status": 503, "times": 30}),
    Kill("triggerer-2"),
    Outage("with HTML", {"path": REPEATABLE, "body": "<html>Bad gateway</html>", "times": 10}),
    Kill("api-server-2"),
    Outage("not at all", {"path": REPEATABLE, "drop": "before", "times": 20}),
    Kill("scheduler-2"),
    Outage(
        "too late: it does the work, and cuts the line", {"path": REPEATABLE, "drop": "after", "times": 20}
    ),
    Kill("dag-processor"),
    Kill("nginx"),
    Kill("redis"),
)


def disturb(
    cluster: CeleryCluster,
    service: Service,
    progress: Progress,
    disturbances: Sequence[Kill | Outage] = DISTURBANCES,
) -> Generator[int, None, None]:
    """
    Let one disturbance follow the other, spread over the run; yields while it waits how many are over.

    :param progress: The state of the run, which the caller refreshes.
    """
    for number, share in enumerate(spread(len(disturbances))):
        while progress.ended < share or not disturbances[number].is_due(progress):
            yield number
        for _ in disturbances[number].steps(cluster, service):
            yield number


def count_failures() -> dict[str, int]:
    """Return how many requests the outages let fail, by the status in the sandbox's log."""
    counts: Counter[str] = Counter()
    for disturbance in DISTURBANCES:
        if isinstance(disturbance, Outage) and not disturbance.rule.keys().isdisjoint({"status", "drop"}):
            counts[str(disturbance.rule.get("status"))] += disturbance.rule["times"]
    return counts


def spread(count: int) -> Iterable[float]:
    """Return the shares of ended tasks at which so many disturbances begin."""
    return [LAST_SHARE * (number + 1) / count for number in range(count)]
