"""
The programs of one cluster. Their logs, and a file that lists them, are in its home; they end together.

Each is a separate process session, so ending it leaves no process behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.cluster.processes import Program, SessionLeader, end_process_trees, read_session_leader
from lab.cluster.state_file import ClusterState, read_cluster_state


class ClusterError(Exception):
    """The cluster did not start, or a part of it exited; the message contains the end of its log."""


class ClusterTimeoutError(ClusterError):
    """Something did not happen in time; the cluster is still running."""


class ClusterPrograms:
    """
    The programs that run in one home.

    :param home: Its folder; an earlier cluster there is deleted.
    :param environment: The environment of every program.
    """

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self.log_folder = home / "component-logs"
        self.environment = dict(environment)
        self.programs: dict[str, Program] = {}
        self._owner: SessionLeader | None = read_session_leader(os.getpid())

    @property
    def url(self) -> str:
        """The address of the running cluster, for messages; empty until it is known."""
        return ""

    def prepare(self) -> None:
        """
        Create an empty home, after stopping what a killed owner left running there.

        :raises ClusterError: A running cluster uses the home, or it contains something else.
        """
        state = read_cluster_state(self.home)
        if state is None and self.home.exists() and any(self.home.iterdir()):
            raise ClusterError(f"{self.home} holds something other than a cluster; choose an empty folder")
        if state is not None and state.is_in_use:
            raise ClusterError(f"a running cluster uses {self.home}; stop it first, or choose another home")
        if state is not None:
            state.end_programs()
            shutil.rmtree(self.home)
        self.log_folder.mkdir(parents=True)
        self._write_state()

    def start_program(self, name: str, command: Sequence[str], *, output_path: Path | None = None) -> Program:
        """Start a program in the cluster's environment; it ends with the cluster."""
        self.programs[name] = program = Program(
            name,
            command,
            environment=self.environment,
            log_path=self.log_folder / f"{name}.log",
            output_path=output_path,
        )
        self._write_state()
        return program

    def stop_program(self, name: str, *, grace: float = 10.0) -> None:
        """End one program and everything it started; a grace of 0 kills it, like the loss of its machine."""
        self.programs.pop(name).stop(grace=grace)
        self._write_state()

    def stop(self, *, grace: float = 3.0) -> None:
        """End every program of the cluster and everything it started; see ``end_process_trees``."""
        if self.programs:
            end_process_trees([program.leader for program in self.programs.values()], grace=grace)
            self.programs.clear()
            # Without an owner: this process may create another cluster in the same home.
            ClusterState().write(self.home)

    def leave_running(self) -> None:
        """
        Keep the cluster running after this process exits.

        ``ClusterState.end_programs`` ends it from another process.
        """
        self._owner = None
        self._write_state()

    def check_programs(self) -> None:
        """
        Raise if a program has exited that should run.

        :raises ClusterError: With the program's exit status and the end of its log.
        """
        for program in self.programs.values():
            if (status := program.exit_status) is not None:
                raise ClusterError(
                    f"{program.name} ended with exit status {status}. {program.describe_log_end()}"
                )

    def _write_state(self) -> None:
        leaders = [program.leader for program in self.programs.values()]
        ClusterState(self.url, self._owner, leaders).write(self.home)
