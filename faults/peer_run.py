"""A peer in place of our operator: the same Airflow, the same disturbance, another provider."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from airflow_run import AirflowRun
from case import Case
from peer import AnthropicPeer


class PeerRun(AirflowRun):
    """
    A case in which the Anthropic provider's agent task waits, deferred.

    :param case: The case; of it count the name, the seconds and what would be right.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.peer = AnthropicPeer(session_seconds=case.seconds, dag_id=case.name)

    def __enter__(self) -> PeerRun:
        self.peer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.peer.__exit__(kind, error, trace)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which Airflow finds the peer's provider and its service."""
        return self.peer.environment

    def write_dag(self, dags_folder: Path) -> None:
        """Write the peer's DAG file."""
        (dags_folder / f"{self.case.name}.py").write_text(self.peer.dag_source)

    @property
    def is_waited_for(self) -> bool:
        """True when a triggerer has taken the trigger, and the session works."""
        return self.is_known and self.task.triggerer_id is not None and self.peer.is_running

    def judge(self) -> None:
        """Note what became of the peer's session and task; what was stopped early has no result."""
        self.outcome.started = self.peer.sessions_started
        self.outcome.left_running = int(self.peer.is_running)
        self.outcome.lost = self.peer.sessions_stopped
        state = self.task.state if self.is_known else None
        self.check(not self.peer.sessions_stopped, f"a healthy session was stopped; the task: {state}")
