"""The runbook has a section for each alert, and a row for each kind of failure."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_agent_tasks import errors
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.measurements import Count, measure_failure

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "how-to" / "runbook.md").read_text()
METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text()
#: The bases of other errors, which are never raised themselves.
BASES = {"outcome", "request"}


def read_sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", RUNBOOK, flags=re.MULTILINE)
    return {heading.lower(): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_each_alert_has_a_section_that_says_what_it_means_how_to_see_it_and_what_to_do() -> None:
    table = METRICS.partition("### Alerts")[2].partition("\n## ")[0]
    alerts = re.findall(r"^\| \[([a-z][^|]+?)\]\(../how-to/runbook.md#[a-z-]+\) \| `", table, re.MULTILINE)
    assert len(alerts) == table.count("\n| [") >= 5
    sections = read_sections()
    for alert in alerts:
        assert all(word in sections[alert] for word in ("**What it means.**", "**See.**", "**Do.**")), alert


def test_each_kind_of_failure_has_a_row() -> None:
    classes = [found for found in vars(errors).values() if isinstance(found, type)]
    measured = [measure_failure(found("")) for found in classes if issubclass(found, AgentTaskError)]
    kinds = {one.tag[1] for one in measured if isinstance(one, Count) and one.tag} - BASES
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| ", read_sections()["tries fail"], re.MULTILINE)
    assert {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} == kinds
