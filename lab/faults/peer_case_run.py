"""One run of a case of another provider, with the same Airflow and the same fault as ours."""

from __future__ import annotations

from pathlib import Path

from lab.faults.anthropic_mock import AnthropicMock
from lab.faults.case_definition import Case
from lab.faults.case_run import CaseRun


class PeerCaseRun(CaseRun):
    """
    A case in which the agent task of the Anthropic provider is deferred.

    :param case: The case; only its name, seconds and expected outcome apply.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.mock = AnthropicMock(session_seconds=case.seconds, dag_id=case.name)

    def __enter__(self) -> PeerCaseRun:
        self.mock.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.mock.__exit__(*exc)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with the provider's folder and its connection."""
        return self.mock.environment

    def write_dag(self, dags_folder: Path, artifacts_folder: Path) -> None:
        """Write the peer's DAG file."""
        (dags_folder / f"{self.case.name}.py").write_text(self.mock.dag_source)

    @property
    def is_waited_for(self) -> bool:
        """True when a triggerer runs the trigger, and the session is working."""
        return self.is_known and self.task.triggerer_id is not None and self.mock.is_running

    def check_outcome(self) -> None:
        """Note the outcome of the peer's session and task; a session stopped early has no result."""
        self.outcome.started = self.mock.sessions_started
        self.outcome.left_running = int(self.mock.is_running)
        self.outcome.lost = self.mock.sessions_stopped
        state = self.task.state if self.is_known else None
        self.check(not self.mock.sessions_stopped, f"a healthy session was stopped; the task: {state}")
