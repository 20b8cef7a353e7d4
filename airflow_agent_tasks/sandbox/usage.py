"""How the usage that a task reports grows with its steps."""

from __future__ import annotations

from typing import Any


def scale_usage(total: dict[str, Any], done: int, of: int) -> dict[str, Any]:
    """
    Return the usage after some of the steps.

    Numbers grow linearly from 0, also those one level deeper; other values are returned as they are.

    :param total: The usage after all steps.
    :param done: The number of completed steps.
    :param of: The number of all steps, at least 1.
    """
    return {
        key: {inner: _scale(part, done, of) for inner, part in value.items()}
        if isinstance(value, dict)
        else _scale(value, done, of)
        for key, value in total.items()
    }


def _scale(value: Any, done: int, of: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or done == of:
        return value
    # Whole numbers stay whole, since nobody reports half a token.
    return value * done // of if isinstance(value, int) else round(value * (done / of), 6)
