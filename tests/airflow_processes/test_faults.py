"""Every case of the fault table once; ``make faults`` runs them several times and prints the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.faults.cases import OUR_CASES
from lab.faults.round import run_round


def test_every_fault_has_the_right_outcome(
    tmp_path: Path, create_cluster_database: Callable[[], str | None]
) -> None:
    outcomes = run_round(tmp_path, OUR_CASES, database_url=create_cluster_database())

    problems = {name: outcome.problems for name, outcome in outcomes.items() if outcome.problems}
    assert problems == {}
    assert set(outcomes) == {case.name for case in OUR_CASES}
