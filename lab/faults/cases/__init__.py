"""All cases of the fault table, by what breaks."""

from __future__ import annotations

from lab.faults.cases.callbacks import CALLBACK_SCENARIOS
from lab.faults.cases.clears import CLEAR_SCENARIOS
from lab.faults.cases.components import COMPONENT_SCENARIOS
from lab.faults.cases.neighbours import NEIGHBOUR_SCENARIOS
from lab.faults.cases.questions import QUESTION_SCENARIOS
from lab.faults.cases.results import RESULT_SCENARIOS
from lab.faults.cases.service import SERVICE_SCENARIOS
from lab.faults.cases.streams import STREAM_SCENARIOS
from lab.faults.cases.users import LIMIT_SCENARIOS, USER_SCENARIOS
from lab.faults.cases.workers import WORKER_SCENARIOS

#: Scenarios that run at the same time, the longest first.
CONCURRENT_SCENARIOS = (
    *SERVICE_SCENARIOS,
    *CLEAR_SCENARIOS,
    *LIMIT_SCENARIOS,
    *CALLBACK_SCENARIOS,
    *QUESTION_SCENARIOS,
    *STREAM_SCENARIOS,
    *RESULT_SCENARIOS,
    *WORKER_SCENARIOS,
    *USER_SCENARIOS,
)
#: Scenarios that break or burden a part of Airflow. They run one at a time, and nothing else runs meanwhile.
EXCLUSIVE_SCENARIOS = (*COMPONENT_SCENARIOS, *NEIGHBOUR_SCENARIOS)
CASES = [case for scenario in (*CONCURRENT_SCENARIOS, *EXCLUSIVE_SCENARIOS) for case in scenario.cases]
OUR_CASES = [case for case in CASES if not case.is_comparison]
