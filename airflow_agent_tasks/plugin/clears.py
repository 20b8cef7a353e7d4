"""
What the API server and the scheduler of Airflow 3.4 do about clears; earlier versions need nothing of it.

The API server keeps the records of agent tasks when their Airflow tasks are cleared. Both stop the agent
tasks of Airflow tasks that a clear replaces by others: no next try finds their records.
Every Airflow process imports this module, so it imports the rest only when one of those two starts.
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
    try:
        from airflow_agent_tasks.airflow_compat.kept_records import keep_records
        from airflow_agent_tasks.airflow_compat.replaced_tasks import watch

        keep_records()
        watch(_stop_replaced)
    except Exception as error:  # which would keep the server from starting
        log.error("A clear will leave the agent tasks of cleared tasks running: %s", error)  # noqa: TRY400


def _stop_replaced(ended: EndedTask) -> None:
    from airflow_agent_tasks.plugin.orphan_stopper import stop_in_background

    stop_in_background(ended)
