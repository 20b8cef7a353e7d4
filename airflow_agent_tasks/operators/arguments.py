"""Checks of operator arguments when Airflow parses the DAG, before a mistake can cost anything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_agent_tasks.airflow_compat.checked_partial import CheckedPartial
from airflow_agent_tasks.operators.argument_names import check_names, find_dialect, find_owner
from airflow_agent_tasks.operators.task_documentation import build_documentation
from airflow_agent_tasks.operators.value_checks import (
    POLICIES,
    check_artifacts_path,
    check_budget,
    check_bytes,
    check_constants,
    check_exit_codes,
    check_flag,
    check_input_default,
    check_name,
    check_notifiers,
    check_optional_name,
    check_policy,
    check_reply,
    check_seconds,
    check_text,
    check_users,
)
from airflow_agent_tasks.services.start_fields import RENDERED_LATER

if TYPE_CHECKING:
    from typing_extensions import Self

_PACKAGE = __name__.partition(".")[0]

#: The checks of the arguments that are not start fields.
COMMON_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "conn_id": check_name,
    "agent_id": check_optional_name,
    "agent_task_id": check_text,
    "deferrable": check_flag,
}
TASK_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    **COMMON_CHECKS,
    "wait_for_completion": check_flag,
    **dict.fromkeys(
        ("poll_interval", "timeout", "max_outage", "input_timeout", "input_recheck_interval"), check_seconds
    ),
    **dict.fromkeys(POLICIES, check_policy),
    "reply": check_reply,
    "assigned_users": check_users,
    "notifiers": check_notifiers,
    "input_default": check_input_default,
    "skip_on_exit_code": check_exit_codes,
    "no_retry_on_exit_code": check_exit_codes,
    "stream": check_flag,
    "budget": check_budget,
    "artifacts_path": check_artifacts_path,
    "max_xcom_bytes": check_bytes,
}


@cache
def list_required(operator_class: type) -> frozenset[str]:
    """Return the names of the arguments that an operator's own ``__init__`` requires."""
    parameters = inspect.signature(operator_class.__init__).parameters.values()  # type: ignore[misc]
    return frozenset(
        one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    )


def check_arguments(
    operator_class: type[BaseOperator], given: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> None:
    """
    Raise AgentTaskArgumentError for an argument that the operator's constructor would reject.

    :param given: The arguments to check, by name.
    :param others: All other arguments; None (default) if more will follow.
    """
    check_names(operator_class, given)
    known = {
        name: value
        for name, value in {**(others or {}), **given}.items()
        if value is not RENDERED_LATER and _is_ours(operator_class, name)
    }
    checks = getattr(operator_class, "argument_checks", {})
    for name in known.keys() & checks.keys():
        checks[name](name, known[name])
    if (dialect := find_dialect(operator_class)) is not None:
        names = [field.name for field in dialect.start_fields]
        # A subclass may pass its base class an argument that the subclass itself does not take.
        if others is None or not _is_of_this_package(operator_class):
            missing = names
        else:
            missing = [name for name in names if {**others, **given}.get(name) is RENDERED_LATER]
        fields = {name: known[name] for name in names if name in known}
        check_constants(dialect, {**dict.fromkeys(missing, RENDERED_LATER), **fields})


def _is_ours(operator_class: type[BaseOperator], name: str) -> bool:
    """Return whether this package defines the argument, rather than a user's subclass."""
    owner = find_owner(operator_class, name)
    return owner is not None and _is_of_this_package(owner)


def _is_of_this_package(operator_class: type) -> bool:
    return operator_class.__module__.startswith(f"{_PACKAGE}.")


class CheckedArguments:
    """Rejects invalid arguments at DAG parsing, in ``partial``, ``expand`` and decorators too."""

    #: The check of each argument that is not a start field.
    argument_checks: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = COMMON_CHECKS
    partial = CheckedPartial(check_arguments, build_documentation)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Airflow would report the missing argument rather than its misspelling.
        operator_class: Any = cls
        if not list_required(operator_class).issubset(kwargs):
            check_names(operator_class, kwargs)
        return super().__new__(cls)
