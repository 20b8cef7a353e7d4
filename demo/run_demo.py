"""
``make demo``: five of the example DAGs through a real Airflow, against the sandbox.

Exits with 0 only if every run ended as ``EXPECTED`` says.
"""

from __future__ import annotations

import sys
import textwrap

from airflow_api import AirflowApiError
from airflow_cluster import AirflowCluster, ClusterError, ClusterTimeoutError
from demo_setup import say, start_all
from folders import ANSWERS_NAME, DEMO_HOME, EXAMPLE_DAGS
from person import Person
from processes import raise_on_termination
from report import (
    ExpectedRun,
    ExpectedTask,
    compare,
    print_answers,
    print_failures,
    print_questions,
    print_tasks,
    read_run,
)

#: What the person of the demo replies to a question with these words in it.
REPLIES = {
    "Contoso GmbH in Hamburg": "The one in Hamburg.",
    "May I spend 12 EUR": "Yes.",
    "a desk chair for 420 EUR": "No, repair the old one.",
}
#: Airflow's name for that person: the demo has no users.
PERSON = "Anonymous"

#: How each DAG has to end. Those that ask come first: they take the longest.
EXPECTED = {
    "supplier_check": ExpectedRun(
        "success",
        {
            "check_supplier": ExpectedTask(
                tries=1, status="completed", answers=[f"{PERSON}: The one in Hamburg.", f"{PERSON}: Yes."]
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
                answers=["answer_routine: Yes, order it.", f"{PERSON}: No, repair the old one."],
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
        "success",
        {
            "export_report": ExpectedTask(tries=2, exit_code=0),
            "check_prices": ExpectedTask("skipped", tries=1, exit_code=99),
            "renew_listing": ExpectedTask("failed", tries=1, exit_code=2),
            "alert": ExpectedTask(tries=1),
        },
    ),
}
#: The rows that company_research writes, one for each company.
EXPECTED_ANSWERS = 4
#: Seconds for all runs together.
RUN_TIMEOUT = 180.0


def main() -> int:
    """Run the demo and return the exit status."""
    raise_on_termination()
    cluster = AirflowCluster(DEMO_HOME, dags_folder=EXAMPLE_DAGS)
    try:
        cluster.prepare()
    except ClusterError as error:
        print(f"The demo did not start: {error}", file=sys.stderr)
        return 1
    try:
        start_all(cluster)
        problems = run_all(cluster)
    except (ClusterError, AirflowApiError) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        problems = ["it was interrupted"]
    finally:
        say("Stopping Airflow and the sandbox ...")
        cluster.stop()
    if problems:
        print("\nThe demo FAILED:")
        print(textwrap.indent("\n".join(problems), "  "))
        print(f"Logs: {cluster.log_folder} (components), {cluster.home / 'logs'} (tasks)")
        return 1
    say("Every run ended as expected.")
    return 0


def run_all(cluster: AirflowCluster) -> list[str]:
    """Run all DAGs at the same time, print what came of them, and return what was not as expected."""
    runs = {dag_id: cluster.api.trigger(dag_id) for dag_id in EXPECTED}
    say(f"Started {', '.join(runs)}")
    person = Person(cluster.api, REPLIES, say)
    problems = []
    try:
        cluster.wait_for_runs(
            runs,
            timeout=RUN_TIMEOUT,
            on_end=lambda dag_id, state: say(f"{dag_id} ended: {state}"),
            on_look=person.answer_open_questions,
        )
    except ClusterTimeoutError as error:
        problems.append(str(error))
    seen = [read_run(cluster.api, dag_id, run_id) for dag_id, run_id in runs.items()]
    print()
    print_tasks(seen)
    print("\nWhat the agents asked, and who replied:")
    print_questions(seen)
    print_failures(cluster.api, seen)
    print("\nThe answers that company_research wrote:")
    answers = print_answers(cluster.home / ANSWERS_NAME)
    print()
    problems += [line for run in seen for line in compare(EXPECTED[run.dag_id], run)]
    if answers != EXPECTED_ANSWERS:
        problems.append(
            f"company_research: expected {EXPECTED_ANSWERS} answers in {ANSWERS_NAME}, seen {answers}"
        )
    return problems


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # A second Ctrl-C: what still ran has been killed by then.
        sys.exit(130)
