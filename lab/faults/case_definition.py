"""Defines a row of the fault table: the remote task, the Airflow task, and the expected outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: A scenario as a generator that yields where it waits, so that many can run at the same time.
Steps = Iterator[None]

#: DAG, task and map index.
TaskKey = tuple[str, str, int]

#: The steps of every scripted remote task: enough to show progress, too few to flood the log.
SCRIPT_STEPS = 10

#: The duration in seconds of a remote task that must not end by itself.
LONG = 600.0
#: The operator's arguments to wait on a worker.
ON_WORKER = {"deferrable": False}


class CaseError(Exception):
    """A case could not be run, for example because an event never came."""


class CaseSkipped(Exception):  # noqa: N818
    """A case does not apply to the installed Airflow; the message says why."""


@dataclass(frozen=True)
class Expected:
    """
    The expected outcome of one run of a case.

    :param started: Remote tasks that were started.
    :param stopped: Remote tasks that Airflow's side cancelled or paused.
    :param left_running: Remote tasks still running at the end, because nothing may stop them.
    :param state: The Airflow task's final state.
    :param tries: The number of the Airflow task's tries; None accepts any number.
    :param results: How often its result was delivered.
    :param asked: The number of questions that were asked in Airflow.
    :param received: The messages that the remote tasks received, in order, from any sender.
    """

    started: int = 1
    stopped: int = 0
    left_running: int = 0
    state: str = "success"
    tries: int | None = 1
    results: int = 1
    asked: int = 0
    received: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return a description for the table."""
        words = [f"{self.started} started"]
        words += [f"{self.stopped} stopped"] if self.stopped else []
        words += [f"{self.left_running} left running"] if self.left_running else []
        words += [f"{self.asked} asked, {len(self.received)} answered"] if self.asked else []
        tries = "" if self.tries is None else f" in {self.tries} {'try' if self.tries == 1 else 'tries'}"
        return ", ".join([*words, f"{self.state}{tries}"])


#: One remote task, one try, one result.
EXACTLY_ONE = Expected()


@dataclass(frozen=True)
class Case:
    """
    One row.

    :param name: Its name on the command line and in the guarantees; also the DAG's id, if ``group`` is None.
    :param title: Its name in the table.
    :param service: ``lightcone``, ``shinzo``, or a peer's service.
    :param expected: The expected outcome.
    :param is_comparison: True for a peer: shown for comparison, without a verdict.
    :param seconds: How long the remote task works.
    :param later_seconds: How long the remote tasks of later tries work; default: the same.
    :param first_exit_code: The exit code of the first try's remote task; the others end with 0.
    :param ask: The remote task's questions; if there are any, the case is about them.
    :param script: More keys of the remote task's script.
    :param streams_result: True if a Lightcone task's event stream delivers a result; its status has none.
    :param arguments: The operator's arguments.
    :param has_artifacts_path: True to give the operator a folder of its own as ``artifacts_path``.
    :param run_timeout: Seconds that the DAG run may take, or None.
    :param retries: The Airflow task's retries.
    :param retry_delay: Seconds between two tries.
    :param group: The DAG that it shares with other cases, each as a task; None for a separate DAG.
    :param map_index: Its index if the cases of its group are one mapped task, otherwise -1.
    :param listed_by: The upstream task that lists the indices (after a clear, only the first), or None.
        Airflow does not render what that task lists, so all tries have the same script.
    :param uses_fault_proxy: True if the connection to the service is what fails.
    :param connection_extra: Extra fields of the connection.
    """

    name: str
    title: str
    service: str
    expected: Expected = EXACTLY_ONE
    is_comparison: bool = False
    seconds: float = 12.0
    later_seconds: float | None = None
    first_exit_code: int = 0
    ask: tuple[str, ...] = ()
    script: Mapping[str, Any] = field(default_factory=dict)
    streams_result: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    has_artifacts_path: bool = False
    run_timeout: float | None = None
    retries: int = 2
    retry_delay: float = 1.0
    group: str | None = None
    map_index: int = -1
    listed_by: str | None = None
    uses_fault_proxy: bool = False
    connection_extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dag_id(self) -> str:
        """The DAG."""
        return self.group or self.name

    @property
    def task_id(self) -> str:
        """The Airflow task's id in its DAG."""
        return "agent" if self.group is None or self.map_index >= 0 else self.name

    @property
    def task_key(self) -> TaskKey:
        """The key that distinguishes its Airflow task from those of other cases."""
        return (self.dag_id, self.task_id, self.map_index)

    @property
    def connection_id(self) -> str:
        """The Airflow connection to this case's own service."""
        return f"{self.service}_{self.name}"

    @property
    def waits_deferred(self) -> bool:
        """True if the triggerer waits rather than a worker, which also follows event streams."""
        return bool(self.arguments.get("deferrable", True)) and not self.arguments.get("stream")

    @property
    def is_called_back(self) -> bool:
        """True if the service calls Airflow while the triggerer waits."""
        return self.waits_deferred and self.arguments.get("callback_mode") == "webhook"

    @property
    def result(self) -> Any:
        """The remote task's result; Lightcone's status has only the exit code."""
        return {"case": self.name} if self.service == "shinzo" or self.streams_result else None

    def to_json(self) -> dict[str, Any]:
        """Return the values that the DAG file needs."""
        return {
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "listed_by": self.listed_by,
            "conn_id": self.connection_id,
            "service": self.service,
            "run_timeout": self.run_timeout,
            "retries": self.retries,
            "retry_delay": self.retry_delay,
            "text": self._build_text(),
            "arguments": {"deferrable": True, "poll_interval": 1, **self.arguments},
        }

    def _build_text(self) -> str:
        later = self.seconds if self.later_seconds is None else self.later_seconds
        script = {
            "steps": SCRIPT_STEPS,
            "step_seconds": by_try(self.seconds / SCRIPT_STEPS, later / SCRIPT_STEPS),
            "exit_code": by_try(self.first_exit_code, 0),
            "ask": json.dumps(self.ask),
            "result": json.dumps(self.result),
            **{key: json.dumps(value) for key, value in self.script.items()},
        }
        return "#sandbox {" + ", ".join(f'"{key}": {value}' for key, value in script.items()) + "}"


def by_try(first: float, later: float) -> str:
    """Return one value for the first try of the Airflow task, another for the later ones: a template."""
    return str(first) if first == later else f"{{{{ {first} if ti.try_number == 1 else {later} }}}}"


@dataclass(frozen=True)
class Scenario:
    """
    The fault of one case, or of several cases at once.

    :param drive: Causes the fault; called with the ``CaseRun`` of each of the cases.
    :param cases: The cases.
    """

    drive: Callable[..., Steps]
    cases: tuple[Case, ...]


def scenario(
    drive: Callable[..., Steps],
    name: str,
    title: str,
    service: str,
    expected: Expected = EXACTLY_ONE,
    **options: Any,
) -> Scenario:
    """Return a scenario of one case; see ``Case`` for the options."""
    return Scenario(drive, (Case(name, title, service, expected, **options),))
