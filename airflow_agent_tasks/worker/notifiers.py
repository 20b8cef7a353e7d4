"""Calls the operator's notifiers with a question of the agent, whose words must never be rendered."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy, deepcopy
from typing import TYPE_CHECKING, cast

from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.text import shorten

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context


def notify(notifiers: Iterable[BaseNotifier], context: Context, question: str | None, log: Log) -> None:
    """
    Call each notifier; a failure of one is logged, and changes nothing else.

    :param notifiers: The operator's notifiers, which stay as its DAG's author wrote them.
    :param context: The context of the try; the notifiers' has ``question`` in addition.
    :param question: What the agent asks.
    :param log: The task's log.
    """
    for notifier in notifiers:
        try:
            _copy(notifier)(cast("Context", {**context, "question": question}))
        except Exception as error:
            # Its text may hold the agent's words.
            log.warning("A notifier failed, the question stays open: %s", shorten(repr(error), 500))


def _copy(notifier: BaseNotifier) -> BaseNotifier:
    """
    Return a notifier that may be called once.

    Airflow's notifiers render their fields in place: called again, one would render what the agent said the
    first time, and so carry out the templates in it.
    """
    once = copy(notifier)
    for name in getattr(notifier, "template_fields", ()):
        if hasattr(notifier, name):
            setattr(once, name, deepcopy(getattr(notifier, name)))
    return once
