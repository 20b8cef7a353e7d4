"""The table: what each case came to in all its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_run import Outcome
from case import Case
from report import print_table

HEADINGS = (
    "case",
    "runs",
    "remote tasks started",
    "remote tasks left running",
    "results lost",
    "expected",
    "verdict",
)


def print_fault_table(cases: Sequence[Case], outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """Print a row for every case; the numbers are the sums of all runs, what is expected is of each run."""
    rows = []
    for case in cases:
        of_case = outcomes[case.name]
        rows.append(
            (
                case.title,
                len(of_case),
                sum(outcome.started for outcome in of_case),
                sum(outcome.left_running for outcome in of_case),
                sum(outcome.lost for outcome in of_case),
                case.expected.describe(),
                describe_verdict(case, of_case),
            )
        )
    print_table(HEADINGS, rows, limit=100)


def describe_verdict(case: Case, outcomes: Sequence[Outcome]) -> str:
    """Say whether all was as expected, and what was measured."""
    wrong = sum(bool(outcome.problems) for outcome in outcomes)
    if case.is_comparison:
        return "; ".join(dict.fromkeys(problem for outcome in outcomes for problem in outcome.problems))
    measured: dict[str, list[float]] = {}
    for outcome in outcomes:
        for what, seconds in outcome.measures.items():
            measured.setdefault(what, []).extend(seconds)
    ranges = [f"{what} {describe_range(seconds)} s" for what, seconds in measured.items()]
    return "; ".join([f"WRONG in {wrong} of {len(outcomes)}" if wrong else "as expected", *ranges])


def describe_range(seconds: Sequence[float]) -> str:
    """Write the smallest and the largest of some numbers."""
    texts = dict.fromkeys(f"{value:.1f}" for value in (min(seconds), max(seconds)))
    return " to ".join(texts)
