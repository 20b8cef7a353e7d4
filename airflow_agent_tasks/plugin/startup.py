"""
The work of this package when an API server, a scheduler or a triggerer starts.

Every Airflow process imports this module, so it imports the rest only when one of these starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_agent_tasks.plugin.clears import handle_clears
from airflow_agent_tasks.preload import preload


class Startup:
    """
    ASGI middleware that only acts when the server starts.

    When the server builds it, it calls ``prepare`` and ``watch_slots``. When the first event reaches it,
    as the server starts, it gets Airflow's app, and adds the check of answers and the receiver of callbacks.

    :param app: The next ASGI app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._has_started = False
        prepare()
        watch_slots()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._has_started:
            self._has_started = True
            check_answers(scope.get("app"))
            receive_callbacks(scope.get("app"))
        await self._app(scope, receive, send)


def prepare() -> None:
    """Report the parts that do not fit the running Airflow, and handle clears; never raises."""
    from airflow_agent_tasks.airflow_compat.startup_check import check_private_parts

    check_private_parts()
    handle_clears()


def watch_slots() -> None:
    """Let tasks that have waited for a slot while no API server was running go on; never raises."""
    with _reported(
        "the slots of connections cannot be shared",
        "tasks that wait for one may wait until another task of the connection starts",
    ):
        from airflow_agent_tasks.plugin.slot_endpoint import clock

        clock.start()


def prepare_local_executor(arguments: Sequence[str]) -> None:
    """
    If this is a scheduler whose executor forks it for tasks, import what tasks need; never raises.

    :param arguments: The command and its arguments, as in ``sys.argv``. Airflow's row for the process does
        not say yet what it is.
    """
    from airflow.sdk import conf

    if arguments[1:2] == ["scheduler"] and "LocalExecutor" in conf.get("core", "executor", fallback=""):
        preload()


def check_answers(app: Any) -> None:
    """Make the API server check the answers to our forms; never raises."""
    with _reported(
        "answers cannot be checked",
        "an answer within seconds of its question may fail the task, and an empty answer is accepted, "
        "and the question is asked again later",
    ):
        from airflow_agent_tasks.airflow_compat.answer_route import add_check
        from airflow_agent_tasks.plugin.answer_check import AnswerCheck, find_delay

        add_check(app, AnswerCheck(find_delay()))


def receive_callbacks(app: Any) -> None:
    """Make the API server receive callbacks ahead of its middlewares; never raises."""
    with _reported(
        "callbacks cannot be received",
        "tasks whose services call back are not woken, and find the end only by a poll every 300 seconds",
    ):
        from airflow_agent_tasks.plugin.callback_endpoint import CallbackReceiver

        app.middleware_stack = CallbackReceiver(app.middleware_stack)


@contextmanager
def _reported(problem: str, consequence: str) -> Iterator[None]:
    """Report an exception, which would end the server."""
    try:
        yield
    except Exception as error:
        from airflow_agent_tasks.airflow_compat.startup_check import report

        report(f"{problem} ({error!r})", consequence)
