"""``partial()``, ``expand()`` and ``expand_kwargs()`` that check the arguments first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial

from airflow_agent_tasks.services.start_fields import RENDERED_LATER

#: Returns the arguments that a task has by default, given its class and its other arguments.
BuildDefaults = Callable[[type[BaseOperator], Mapping[str, Any]], Mapping[str, Any]]


class Check(Protocol):
    """Checks arguments of an operator class by name, and raises an error for the DAG author."""

    def __call__(
        self,
        operator_class: type[BaseOperator],
        given: Mapping[str, Any],
        others: Mapping[str, Any] | None = None,
        /,
    ) -> None:
        """Check the given arguments; ``others`` are all the other ones, or None if more will follow."""


class CheckedPartial:
    """
    An operator class's ``partial``, as a class attribute.

    :param check: Called with the class and the arguments by name.
    :param build_defaults: Called with the same, and with the ``default_args``.
    """

    def __init__(self, check: Check, build_defaults: BuildDefaults) -> None:
        self._check = check
        self._build_defaults = build_defaults

    def __get__(self, operator: Any, operator_class: type[BaseOperator]) -> Any:
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
            checked.given = {**_merge_default_args(built.kwargs), **kwargs}
            built.kwargs.update(self._build_defaults(operator_class, checked.given))
            # Airflow warns about a partial that is discarded without being mapped.
            built._expand_called = True
            return checked

        return partial


class _CheckedOperatorPartial(OperatorPartial):
    check: Check
    given: Mapping[str, Any]

    def expand(self, **mapped_kwargs: Any) -> MappedOperator:
        later = dict.fromkeys(mapped_kwargs, RENDERED_LATER)
        self.check(self.operator_class, later, self.given)
        for name, values in mapped_kwargs.items():
            # A dict is expanded to its items; another task's output is checked when the task runs.
            for value in values if isinstance(values, list | tuple) else ():
                self.check(self.operator_class, {name: value}, {**self.given, **later})
        return super().expand(**mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        for item in kwargs if isinstance(kwargs, list | tuple) else ():
            if isinstance(item, Mapping):
                self.check(self.operator_class, item, self.given)
        return super().expand_kwargs(kwargs, strict=strict)


def _merge_default_args(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``default_args`` of a task, its group and its DAG, which Airflow applies when it runs."""
    holders = (kwargs.get("dag"), kwargs.get("task_group"))
    return {
        name: value
        for holder in holders
        for name, value in (getattr(holder, "default_args", None) or {}).items()
    }
