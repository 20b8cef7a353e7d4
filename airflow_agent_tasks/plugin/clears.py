"""
Handles clears in the API server and the scheduler of Airflow 3.4; earlier versions do not need this.

When Airflow tasks are cleared, the API server keeps the records of their agent tasks. Both servers stop the
agent tasks of Airflow tasks that a clear replaces with others, because no later try finds their records.
Every Airflow process imports this module, so it imports the rest only when a server starts.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS

if TYPE_CHECKING:
    from airflow_agent_tasks.airflow_compat.ended_tasks import EndedTask

log = logging.getLogger(__name__)


@cache
def handle_clears() -> None:
    """Handle the clears of this process from now on; never raises."""
    if not AIRFLOW_V_3_4_PLUS:
        return
    for handle in (_keep_records, _watch_replaced):
        try:
            handle()
        except Exception as error:  # would keep the server from starting
            log.error("Agent tasks will keep running when their tasks are cleared: %s", error)  # noqa: TRY400


def _keep_records() -> None:
    from airflow_agent_tasks.airflow_compat.kept_records import keep_records

    keep_records()


def _watch_replaced() -> None:
    from airflow_agent_tasks.airflow_compat.replaced_tasks import watch

    watch(_stop_replaced)


def _stop_replaced(ended: EndedTask) -> None:
    from airflow_agent_tasks.plugin.orphan_stopper import stop_in_background

    stop_in_background(ended)
