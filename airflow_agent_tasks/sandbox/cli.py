"""The sandbox as a command: ``python -m airflow_agent_tasks.sandbox`` and ``airflow agent-tasks sandbox``."""

from __future__ import annotations

import argparse
import ipaddress
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.sandbox import DEFAULT_API_KEY, DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

_SUMMARY = "Serve a local mock of Lightcone and Shinzo, to write and test DAGs without a key"
_PORT_HELP = f"port to listen on, 0 for any free one; default {DEFAULT_PORT}"
_HOST_HELP = f"address to listen on; default {DEFAULT_HOST} (this machine only)"
_KEY_HELP = f"key that both services accept; default {DEFAULT_API_KEY}"
_OPTIONS: dict[str, dict[str, Any]] = {
    "--port": {"type": int, "default": DEFAULT_PORT, "help": _PORT_HELP},
    "--host": {"default": DEFAULT_HOST, "help": _HOST_HELP},
    "--api-key": {"default": DEFAULT_API_KEY, "help": _KEY_HELP},
}


def serve(host: str, port: int, api_key: str) -> int:
    """
    Serve until SIGTERM or SIGINT.

    As soon as it accepts requests, it prints the base URL on one line, and then shell commands that point
    Airflow's default connections to it.

    :return: The exit status: 0 after a signal, 1 if the sandbox could not start.
    """
    # Imported here: Airflow imports this module for each of its own commands.
    from airflow_agent_tasks.sandbox.server import Sandbox

    asked_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    try:
        sandbox = Sandbox(host, port, api_key).start()
    except OSError as exc:
        return _fail(exc.strerror or str(exc))
    except AgentTaskError as exc:
        return _fail(str(exc))
    try:
        exports = [
            f"export {name}={shlex.quote(value)}" for name, value in sandbox.connection_variables().items()
        ]
        # In one write: a reader that closes after the first line must not end the sandbox.
        print("\n".join([sandbox.url, *exports]), flush=True)
        if not _is_loopback(host):
            _warn(
                f"Listening on {host}: anyone who can reach this port can read every request "
                "under /_sandbox, without a key."
            )
        asked_to_end.wait()
    finally:
        sandbox.stop()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m airflow_agent_tasks.sandbox", description=f"{_SUMMARY}.")
    for flag, details in _OPTIONS.items():
        parser.add_argument(flag, **details)
    options = parser.parse_args(arguments)
    return serve(options.host, options.port, options.api_key)


def build_command() -> CLICommand:
    """Return the command ``sandbox`` for Airflow's command line."""
    from airflow.cli.cli_config import ActionCommand, Arg

    return ActionCommand(
        name="sandbox",
        help=_SUMMARY,
        func=_run_from_airflow,
        args=[Arg((flag,), **details) for flag, details in _OPTIONS.items()],  # type: ignore[no-untyped-call]
    )


def _run_from_airflow(options: argparse.Namespace) -> None:
    raise SystemExit(serve(options.host, options.port, options.api_key))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def _warn(message: str) -> None:
    print(f"Warning: {message}", file=sys.stderr, flush=True)
