"""Every case of the fault table once; ``make faults`` runs them several times and prints the table."""

from __future__ import annotations

from pathlib import Path


def test_every_fault_has_the_right_outcome(tmp_path: Path) -> None:
    from run_faults import OUR_CASES, perform_round

    outcomes = perform_round(tmp_path, OUR_CASES)

    problems = {name: outcome.problems for name, outcome in outcomes.items() if outcome.problems}
    assert problems == {}
    assert set(outcomes) == {case.name for case in OUR_CASES}
