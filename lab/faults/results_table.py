"""The table that ``make faults`` prints: the outcome of each case over all rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.command_line import print_table
from lab.faults.case_definition import Case
from lab.faults.case_run import Outcome

HEADINGS = (
    "case",
    "rounds",
    "remote tasks started",
    "remote tasks left running",
    "results lost",
    "expected",
    "verdict",
)


def print_results_table(cases: Sequence[Case], outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """Print a row for every case; the counts are sums over all rounds, "expected" is per round."""
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
    """Describe whether every run was as expected, and the measured times."""
    if not outcomes:
        return "NOT RUN"
    wrong = sum(bool(outcome.problems) for outcome in outcomes)
    if case.is_comparison:
        return "; ".join(dict.fromkeys(problem for outcome in outcomes for problem in outcome.problems))
    if outcomes[0].skipped:
        return f"not run: {outcomes[0].skipped}"
    measured: dict[str, list[float]] = {}
    for outcome in outcomes:
        for what, seconds in outcome.measures.items():
            measured.setdefault(what, []).extend(seconds)
    ranges = [f"{what} {describe_range(seconds)} s" for what, seconds in measured.items()]
    return "; ".join([f"WRONG in {wrong} of {len(outcomes)}" if wrong else "as expected", *ranges])


def describe_range(seconds: Sequence[float]) -> str:
    """Return the smallest and the largest of some numbers as text."""
    texts = dict.fromkeys(f"{value:.1f}" for value in (min(seconds), max(seconds)))
    return " to ".join(texts)
