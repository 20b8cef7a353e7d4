"""The Grafana dashboard and the metrics that it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "agent-tasks.json").read_text())
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
#: The metrics of the table as statsd_exporter names them, with the names that it gives to a timer.
TABLE = {
    f"airflow_{name.replace('.', '_')}": kind
    for name, kind in re.findall(r"^\| `(agent_tasks\.[\w.]+)` \| (counter|gauge|timer) \|", PAGE, re.M)
}
NAME = re.compile(r"airflow_agent_tasks_\w+")


def list_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def strip(name: str) -> str:
    timer = re.sub(r"_(sum|count)$", "", name)
    return timer if TABLE.get(timer) == "timer" else name


def test_the_panels_show_each_metric_of_the_table_and_no_other() -> None:
    shown = {strip(name) for expression in list_expressions() for name in NAME.findall(expression)}
    assert len(TABLE) > 10
    assert shown == TABLE.keys()


def test_a_counter_is_shown_as_its_increase_and_a_gauge_as_its_value() -> None:
    for expression in list_expressions():
        kinds = {TABLE[strip(name)] for name in NAME.findall(expression)}
        assert ("increase(" in expression) is (kinds != {"gauge"} and "quantile=" not in expression), (
            expression
        )


def test_the_dashboard_can_be_imported_with_any_data_source() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert DASHBOARD["schemaVersion"] >= 39
    assert len({panel["id"] for panel in panels}) == len(panels)
    sources = [panel["datasource"] for panel in panels]
    sources += [target["datasource"] for panel in panels for target in panel["targets"]]
    assert {json.dumps(source) for source in sources} == {'{"type": "prometheus", "uid": "${datasource}"}'}
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    used = {name for text in list_expressions() for name in re.findall(r"\$(\w+)", text) if name[:2] != "__"}
    assert used | {"datasource"} == variables.keys()


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_the_alerts_of_the_page_use_metrics_of_the_table() -> None:
    alerts = PAGE.partition("### Alerts")[2].partition("\n## ")[0]
    assert {strip(name) for name in NAME.findall(alerts)} <= TABLE.keys()
    assert len(NAME.findall(alerts)) >= 5
