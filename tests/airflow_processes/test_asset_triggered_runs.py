"""The examples with an asset, through a real scheduler: only it starts a DAG when an asset has changed."""

from __future__ import annotations

from typing import Any

from lab.cluster.processes import wait_until
from lab.paths import EXAMPLE_DAGS

DAGS = {name: (EXAMPLE_DAGS / name).read_text() for name in ("trend_report.py", "trend_newsletter.py")}


def test_a_report_of_an_agent_starts_the_dag_that_reads_it(cluster: Any) -> None:
    run_id = cluster.api.trigger("trend_report")
    assert cluster.wait_for_run("trend_report", run_id, timeout=120) == "success"

    def list_runs() -> list[dict[str, Any]]:
        return cluster.api.request("GET", "/dags/trend_newsletter/dagRuns")["dag_runs"]

    assert wait_until(lambda: bool(list_runs()), timeout=60)
    (run,) = list_runs()
    assert run["run_type"] == "asset_triggered"
    assert cluster.wait_for_run("trend_newsletter", run["dag_run_id"], timeout=120) == "success"
    (task,) = cluster.api.list_tasks("trend_newsletter", run["dag_run_id"])
    assert cluster.api.read_xcoms(task)["return_value"] == ["city bikes: Cargo bikes outsell folding bikes."]
