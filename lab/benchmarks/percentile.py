"""The percentiles that the benchmarks report."""

from __future__ import annotations


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies; NaN for an empty list."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")
