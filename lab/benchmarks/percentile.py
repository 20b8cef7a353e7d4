"""The percentiles that the benchmarks report."""

from __future__ import annotations

from collections.abc import Sequence

#: The median, the 99th percentile and the maximum.
SHARES = (0.5, 0.99, 1.0)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies; NaN for an empty list."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def describe(values: Sequence[float], digits: int) -> str:
    """Return the median, the 99th percentile and the maximum, or nothing for an empty list."""
    return " / ".join(f"{percentile(values, share):.{digits}f}" for share in SHARES if values)
