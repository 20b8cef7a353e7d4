"""``partial()``, ``expand()`` and ``expand_kwargs()``, with a check of the arguments' names first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial

Check = Callable[[type[BaseOperator], Mapping[str, Any]], None]


class CheckedPartial:
    """
    An operator class's ``partial``, as a class attribute.

    :param check: Called with the class and the arguments by name; raises the error for the DAG's author.
    """

    def __init__(self, check: Check) -> None:
        self._check = check

    def __get__(self, operator: Any, operator_class: type[BaseOperator]) -> Callable[..., OperatorPartial]:
        # Not super(): it would hide from Airflow that partial was called on a task, not on its class.
        build = vars(BaseOperator)["partial"].__get__(operator, operator_class)

        def partial(**kwargs: Any) -> OperatorPartial:
            if operator is None:
                self._check(operator_class, kwargs)
            built = build(**kwargs)
            checked = _CheckedOperatorPartial(
                operator_class=operator_class, kwargs=built.kwargs, params=built.params
            )
            checked.check = self._check
            # Airflow warns of a partial that is thrown away without being mapped.
            built._expand_called = True
            return checked

        return partial


class _CheckedOperatorPartial(OperatorPartial):
    check: Check

    def expand(self, **mapped_kwargs: Any) -> MappedOperator:
        self.check(self.operator_class, mapped_kwargs)
        return super().expand(**mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        # What another task returns is checked when the mapped task runs.
        for item in kwargs if isinstance(kwargs, list | tuple) else ():
            if isinstance(item, Mapping):
                self.check(self.operator_class, item)
        return super().expand_kwargs(kwargs, strict=strict)
