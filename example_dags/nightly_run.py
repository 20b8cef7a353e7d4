"""
Three agent tasks run every night, and their exit codes decide what happens next.

- `export_report` fails on its first try and is retried.
- `check_prices` finds nothing to do and is skipped (`skip_on_exit_code`).
- `renew_listing` fails in a way that a retry cannot fix: no retry (`no_retry_on_exit_code`), and `alert`
  reports it.

`fail_run` fails the run if an agent failed, even though the alert succeeded.

**Connection:** `lightcone_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of each instruction, `#sandbox …`,
only scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

# The exit codes that the instructions tell the agents to end with.
NOTHING_TO_DO = 99
LOGIN_REFUSED = 2


@dag(
    # Every night at two would be schedule="0 2 * * *".
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=3), "deferrable": True},
    doc_md=__doc__,
    tags=["agent-tasks", "example", "lightcone", "exit-codes"],
)
def nightly_run() -> None:
    # The first line of each instruction is for the sandbox only. This one fails on its first try.
    export_report = LightconeTaskOperator(
        task_id="export_report",
        instruction=(
            '#sandbox {"steps": 2, "exit_code": {{ 75 if ti.try_number == 1 else 0 }}}\n'
            "Log in to the shop, export the sales report for {{ ds | default('today') }} "
            "and mail it to sales."
        ),
        kind="browser",
        start_url="https://shop.example/login",
        max_steps=60,
        max_duration_seconds=1800,
    )

    check_prices = LightconeTaskOperator(
        task_id="check_prices",
        instruction=(
            f'#sandbox {{"steps": 1, "exit_code": {NOTHING_TO_DO}}}\n'
            f"Compare our prices with the list. If nothing changed, end with exit code {NOTHING_TO_DO}."
        ),
        skip_on_exit_code=NOTHING_TO_DO,
        doc_md=f"Skipped if the agent ends with exit code {NOTHING_TO_DO}: no price changed.",
    )

    renew_listing = LightconeTaskOperator(
        task_id="renew_listing",
        instruction=(
            f'#sandbox {{"steps": 1, "exit_code": {LOGIN_REFUSED}}}\n'
            f"Renew our listing. If the login is refused, end with exit code {LOGIN_REFUSED}."
        ),
        # A second login with the same password would be refused as well, and lock the account.
        no_retry_on_exit_code=LOGIN_REFUSED,
        doc_md=f"Exit code {LOGIN_REFUSED}: not retried. **Check the password** before you clear the task.",
    )

    # Not "one_failed", which would not wait for the retries of the other tasks.
    @task(trigger_rule="all_done", retries=0)
    def alert() -> dict[str, int]:
        """Report the tasks that failed and their exit codes, which are in XCom even after a failure."""
        ti = get_current_context()["ti"]
        states = ti.get_task_states(
            dag_id=ti.dag_id,
            task_ids=["export_report", "check_prices", "renew_listing"],
            run_ids=[ti.run_id],
        )
        failed = [task_id for task_id, state in states[ti.run_id].items() if state == "failed"]
        if not failed:
            raise AirflowSkipException("A quiet night.")
        exit_codes = {task_id: ti.xcom_pull(task_ids=task_id, key="exit_code") for task_id in failed}
        print(f"ALERT, please look into: {exit_codes}")
        return exit_codes

    # The last tasks decide the state of the run, and an alert that was sent is a success.
    @task(trigger_rule="one_failed", retries=0)
    def fail_run() -> None:
        raise AirflowFailException("An agent failed: see the log of the task 'alert'.")

    [export_report, check_prices, renew_listing] >> alert()
    [export_report, check_prices, renew_listing] >> fail_run()


nightly_run()
