"""
The command group ``agent-tasks`` of Airflow's command line.

Airflow imports this module for each of its own commands, so it imports little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.documentation import link
from airflow_agent_tasks.preload import preload_in_celery_worker
from airflow_agent_tasks.sandbox.cli import build_command

_CONNECTIONS_HELP = (
    "also test these connections with a request; without ids, all Lightcone and Shinzo connections in the "
    "database and the environment"
)
_STOP_HELP = "stop the abandoned agent tasks; without it, nothing is changed"


def get_agent_tasks_cli_commands() -> list[CLICommand]:
    """Return the commands, for the provider metadata, and prepare the command of a Celery worker."""
    # No other code of a provider runs in a worker before it forks.
    preload_in_celery_worker(sys.argv)
    group = GroupCommand(
        name="agent-tasks",
        help="List agent tasks, act on them, check a deployment, and run a local mock of the services",
        subcommands=[*_list_operations(), _build_doctor(), build_command()],
    )
    return [group]


def _list_operations() -> list[ActionCommand]:
    task = _arg("agent_task_id", help="the service's id of the agent task, as 'list' prints it")
    message = _arg("message", help="the text for the agent; - reads it from standard input")
    return [
        _build("list", "list_tasks", "List the agent tasks of the last days", _list_filters()),
        _build("show", "show_task", "Show an agent task as its service describes it now", [task, ARG_OUTPUT]),
        _build("message", "send_message", "Send a message to an agent", [task, message]),
        _build("pause", "pause_task", "Pause an agent task, on services that can", [task]),
        _build("resume", "resume_task", "Resume a paused agent task", [task]),
        _build("stop", "stop_task", "Stop an agent task, and mark its Airflow task as failed", [task]),
        _build(
            "reconcile",
            "reconcile",
            "Find agent tasks that were left behind, and stop them if you say so",
            [
                _count_days(30.0),
                _arg("--dry-run", action="store_true", help="change nothing, even with --stop; the default"),
                _arg("--stop", action="store_true", help=_STOP_HELP),
                ARG_OUTPUT,
            ],
        ),
    ]


def _list_filters() -> list[Arg]:
    states = [state.value for state in TaskState]
    repeatable = "can be given several times"
    return [
        _count_days(7.0),
        _arg("--dag-id", help="only this DAG"),
        _arg("--run-id", help="only this DAG run"),
        _arg("--task-id", help="only this task"),
        _arg("--text", default="", help="a part of an id of Airflow, or the beginning of one of the service"),
        _arg("--state", action="append", help=f"a state of the Airflow task, such as deferred; {repeatable}"),
        _arg(
            "--agent-state",
            action="append",
            choices=states,
            help=f"a state of the agent task as last seen; {repeatable}",
        ),
        _arg("--active", action="store_true", help="only those whose agent may be working"),
        _arg("--limit", type=_read_limit, help="at most so many, the newest; default all"),
        ARG_OUTPUT,
    ]


def _count_days(default: float) -> Arg:
    summary = f"days to look back; tasks that still wait are always included; default {default:g}"
    return _arg("--days", type=_read_days, default=default, help=summary)


def _build_doctor() -> ActionCommand:
    return ActionCommand(
        name="doctor",
        help="Check whether this deployment can run agent tasks, and suggest fixes",
        description=f"Documentation: {link('how-to/check-a-deployment')}",
        func=lazy_load_command("airflow_agent_tasks.cli.doctor.run"),
        args=(_arg("--connections", nargs="*", metavar="CONN_ID", help=_CONNECTIONS_HELP), ARG_OUTPUT),
    )


def _build(name: str, function: str, summary: str, args: Sequence[Arg]) -> ActionCommand:
    return ActionCommand(
        name=name,
        help=summary,
        description=f"Documentation: {link('how-to/operate')}",
        func=lazy_load_command(f"airflow_agent_tasks.cli.agent_tasks.{function}"),
        args=args,
    )


def _arg(name: str, **options: object) -> Arg:
    return Arg((name,), **options)  # type: ignore[no-untyped-call]


def _read_limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return limit


def _read_days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days between 0 and 36500")
    return days
