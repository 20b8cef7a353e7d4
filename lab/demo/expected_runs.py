"""How each run of the demo must end, and the reviewer's replies to the agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ExpectedTask:
    """
    How a task must end.

    :param state: Its state in Airflow.
    :param count: The number of its task instances; more than one if the task is mapped.
    :param tries: The number of tries of each; None accepts any number.
    :param status: The agent task's final status; None accepts any.
    :param exit_code: The agent task's exit code; None accepts any.
    :param answers: The replies to its questions and their senders, as ``name: reply``.
    :param artifacts: The number of files that its agent made.
    :param usage: What its agent used; None accepts anything.
    """

    state: str = "success"
    count: int = 1
    tries: int | None = None
    status: str | None = None
    exit_code: int | None = None
    answers: Sequence[str] = ()
    artifacts: int = 0
    usage: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ExpectedRun:
    """
    How a run of a DAG must end.

    :param state: Its state in Airflow.
    :param tasks: How each task of the DAG must end, by the task's id.
    """

    state: str
    tasks: Mapping[str, ExpectedTask]


@dataclass(frozen=True)
class ExpectedLive:
    """
    What a task's page in the Airflow UI must show while the task runs.

    :param lines: Parts of lines in its log.
    :param on_page: A text on the page to which the link of its agent task leads.
    """

    dag_id: str
    task_id: str
    lines: Sequence[str]
    on_page: str


#: The reviewer's replies, each by a part of the question.
REVIEWER_REPLIES = {
    "Contoso GmbH in Hamburg": "The one in Hamburg.",
    "May I spend 12 EUR": "Yes.",
    "a desk chair for 420 EUR": "No, repair the old one.",
}
#: Airflow's name for the reviewer: the demo has no users.
REVIEWER = "Anonymous"

#: By DAG. Those that ask a question come first, because they take the longest.
EXPECTED_RUNS = {
    "supplier_check": ExpectedRun(
        "success",
        {
            "check_supplier": ExpectedTask(
                tries=1, status="completed", answers=[f"{REVIEWER}: The one in Hamburg.", f"{REVIEWER}: Yes."]
            ),
            "file_report": ExpectedTask(),
        },
    ),
    "office_order": ExpectedRun(
        "success",
        {
            "order": ExpectedTask(
                tries=1,
                exit_code=0,
                answers=["answer_routine: Yes, order it.", f"{REVIEWER}: No, repair the old one."],
            ),
            "note_expenses": ExpectedTask(),
        },
    ),
    "company_research": ExpectedRun(
        "success",
        {
            "read_companies": ExpectedTask(),
            "research": ExpectedTask(count=4, tries=1, status="completed"),
            "load_answers": ExpectedTask(),
        },
    ),
    "shop_tour": ExpectedRun(
        "success",
        {
            # Four screenshots and the transcript.
            "tour": ExpectedTask(
                tries=1,
                exit_code=0,
                artifacts=5,
                usage={"tokens": 3200, "cost": 0.12, "currency": "EUR"},
            ),
            "report": ExpectedTask(),
        },
    ),
    "code_review": ExpectedRun(
        "success",
        {
            "review": ExpectedTask(tries=1, status="completed"),
            "decide": ExpectedTask(),
            "block_merge": ExpectedTask(),
            "approve_merge": ExpectedTask("skipped"),
        },
    ),
    "nightly_run": ExpectedRun(
        "failed",
        {
            "export_report": ExpectedTask(tries=2, exit_code=0),
            "check_prices": ExpectedTask("skipped", tries=1, exit_code=99),
            "renew_listing": ExpectedTask("failed", tries=1, exit_code=2),
            "alert": ExpectedTask(tries=1),
            "fail_run": ExpectedTask("failed", tries=1),
        },
    ),
}
#: The number of rows that company_research writes: one per company.
RESEARCH_ROWS = 4
#: The streamed task. Its last step may be over before anyone has looked.
LIVE = ExpectedLive(
    "shop_tour",
    "tour",
    [
        "Step 2 of 5",
        'Tool: open(url="https://shop.example")',
        "Agent: I search for oat milk.",
        "Screenshot 1",
    ],
    "Put one carton of oat milk into the basket",
)
