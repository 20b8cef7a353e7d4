"""
The command group ``agent-tasks`` of Airflow's command line.

Airflow imports this module for each of its own commands, so it imports little.
"""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_agent_tasks.documentation import link
from airflow_agent_tasks.sandbox.cli import build_command

_CONNECTIONS_HELP = (
    "also test these connections with a request; without ids, all Lightcone and Shinzo connections in the "
    "database and the environment"
)


def get_agent_tasks_cli_commands() -> list[CLICommand]:
    """Return the commands, for the provider metadata."""
    connections = Arg(("--connections",), nargs="*", metavar="CONN_ID", help=_CONNECTIONS_HELP)  # type: ignore[no-untyped-call]
    doctor = ActionCommand(
        name="doctor",
        help="Check whether this deployment can run agent tasks, and suggest fixes",
        description=f"Documentation: {link('how-to/check-a-deployment')}",
        func=lazy_load_command("airflow_agent_tasks.cli.doctor.run"),
        args=(connections, ARG_OUTPUT),
    )
    group = GroupCommand(
        name="agent-tasks",
        help="Check a deployment for agent tasks, and run a local mock of the services",
        subcommands=[doctor, build_command()],
    )
    return [group]
