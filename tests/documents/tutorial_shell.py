"""The terminal of the tutorial's reader: one bash, with job control, that performs the page's commands."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.cluster.processes import end_process_trees, read_session_leader, wait_until


class Terminal:
    """
    A bash that keeps its variables and background jobs from command to command.

    It leads a session of its own, so that closing it ends everything that was started in it.

    :param home: Its home directory, and where it starts.
    :param environment: Its environment, but for HOME.
    """

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        # A file, which a background job may keep open, and which can be read at any time.
        with tempfile.NamedTemporaryFile("wb", dir=home, prefix="screen", delete=False) as screen:
            self._screen = Path(screen.name)
            self._bash = subprocess.Popen(
                ["bash", "--norc"],
                env={**environment, "HOME": str(home)},
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )
        self._leader = read_session_leader(self._bash.pid)
        self._count = 0
        # As at a prompt: job control, without which background jobs would ignore SIGINT.
        self.run("set -m")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        end_process_trees([self._leader])
        self._bash.wait()

    def run(self, commands: str, *, timeout: float = 20.0) -> str:
        """
        Perform commands, and return what appeared on the screen meanwhile.

        :raises AssertionError: The last one failed, or they did not end in time.
        """
        self._count += 1
        ended = self.home / f"ended-{self._count}"
        start = len(self.read_screen())
        assert self._bash.stdin
        self._bash.stdin.write(
            f"{commands.rstrip()}\necho $? > {ended}.new; mv {ended}.new {ended}\n".encode()
        )
        self._bash.stdin.flush()
        assert wait_until(ended.exists, timeout=timeout, interval=0.1), (
            f"not done in {timeout} s: {commands}\n{self.read_screen()}"
        )
        shown = self.read_screen()[start:]
        assert ended.read_text() == "0\n", f"it failed: {commands}\n{shown}"
        return shown

    def wait_for_output(self, text: str, *, timeout: float = 60.0) -> None:
        """Wait until this text is on the screen."""
        assert wait_until(lambda: text in self.read_screen(), timeout=timeout, interval=0.1), (
            f"{text!r} did not appear:\n{self.read_screen()}"
        )

    def read_screen(self) -> str:
        """Return everything that has appeared so far."""
        return self._screen.read_text(errors="replace")
