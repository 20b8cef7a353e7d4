"""The arguments that an operator takes: name checks when Airflow parses the DAG, and text for ``help()``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from airflow.sdk import BaseOperator

from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskNotSupportedError
from airflow_agent_tasks.services.base import Capability, Dialect
from airflow_agent_tasks.text import shorten

#: Arguments that make sense only if the service has this capability. ``on_uncertain_submit`` is not listed:
#: on a service with idempotency keys no submit stays uncertain, so the argument is harmless there.
NEEDED_CAPABILITIES = {
    "agent_id": Capability.AGENT_CHOICE,
    "skip_on_exit_code": Capability.EXIT_CODE,
    "no_retry_on_exit_code": Capability.EXIT_CODE,
    "stream": Capability.STREAM,
}
#: The start fields of services that call back. An operator whose service does not names the alternative.
CALLBACK_FIELDS = ("callback_mode", "webhook_url")
#: How similar two names must be for one to count as a misspelling of the other, from 0 to 1.
MIN_SIMILARITY = 0.75


def check_names(operator_class: type[BaseOperator], given: Mapping[str, Any]) -> None:
    """
    Raise AgentTaskArgumentError for an argument that the operator lacks or that its service would ignore.

    :param given: The arguments by name. One whose value is None or False is accepted on every service.
    """
    operator, dialect = name_operator(operator_class), find_dialect(operator_class)
    known = list_names(operator_class)
    # Airflow passes internal arguments, whose names start with an underscore.
    unknown = [name for name in given if name not in known and not name.startswith("_")]
    if unknown:
        hints = " It has no argument ".join(_explain_unknown(name, known, dialect) for name in unknown)
        raise AgentTaskArgumentError(f"{operator} has no argument {hints}")
    for name, value in given.items():
        is_given = value is not None and value is not False
        if is_given and (lack := _explain_lack(dialect, NEEDED_CAPABILITIES.get(name))):
            raise AgentTaskArgumentError(f"{operator} does not accept {name}. {lack}")


def _explain_lack(dialect: Dialect | None, needed: Capability | None) -> str | None:
    """Return what to do without a capability that a known service lacks, or None if it has it."""
    if dialect is None or needed is None:
        return None
    try:
        dialect.require(needed)
    except AgentTaskNotSupportedError as error:
        return str(error)
    return None


def _explain_unknown(name: str, known: Iterable[str], dialect: Dialect | None) -> str:
    if name in CALLBACK_FIELDS and (lack := _explain_lack(dialect, Capability.CALLBACK)):
        return f"{name!r}. {lack}"
    similar = find_similar(name, known)
    if similar:
        return f"{shorten(repr(name))}; did you mean {similar!r}?"
    if dialect is None:
        return f"{shorten(repr(name))}."
    # It may be a start field of another service.
    fields = ", ".join(field.name for field in dialect.start_fields)
    return f"{shorten(repr(name))}; the start fields of {dialect.title} are {fields}."


def pick_needing_capability(
    arguments: Mapping[str, Any], default_args: Mapping[str, Any] | None
) -> dict[str, Any]:
    """
    Return the arguments that make sense only on services with a certain capability.

    Values from ``default_args`` are left out: they apply to all tasks of a DAG, and may not suit this one.
    """
    defaults = default_args or {}
    given = {name: arguments[name] for name in NEEDED_CAPABILITIES}
    return {name: value for name, value in given.items() if defaults.get(name) is not value}


def find_similar(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to a misspelt one, or None."""
    import difflib  # imported here: every DAG file imports this module, and few have a mistake

    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=MIN_SIMILARITY)), None)


def name_operator(operator_class: type[BaseOperator]) -> str:
    """Return the operator's name as a DAG author writes it."""
    return str(getattr(operator_class, "custom_operator_name", operator_class.__name__))


def find_dialect(operator_class: type[BaseOperator]) -> Dialect | None:
    """Return the dialect of an operator's service; None for an operator that works with any service."""
    return getattr(getattr(operator_class, "hook_class", None), "dialect", None)


@cache
def list_names(operator_class: type[BaseOperator]) -> frozenset[str]:
    """Return the names of all arguments that an operator takes, Airflow's own included."""
    return frozenset(name for parent in operator_class.__mro__ for name in _list_own_names(parent))


def find_owner(operator_class: type[BaseOperator], name: str) -> type | None:
    """Return the class that defines an argument of an operator; if several do, the most derived one."""
    return next((parent for parent in operator_class.__mro__ if name in _list_own_names(parent)), None)


@cache  # asked for each value that a DAG maps; reading a signature takes longer than the rest of the check
def _list_own_names(parent: type) -> frozenset[str]:
    if not issubclass(parent, BaseOperator) or "__init__" not in vars(parent):
        return frozenset()
    parameters = inspect.signature(vars(parent)["__init__"]).parameters.items()
    return frozenset(name for name, one in parameters if name != "self" and one.kind is not one.VAR_KEYWORD)


def complete_docstring(operator_class: type[BaseOperator], common: str) -> str:
    """
    Return the docstring of an operator, completed with the arguments that it inherits.

    :param common: The docstring that documents the inherited arguments.
    """
    text, *own = _split_paragraphs(operator_class.__doc__ or "")
    dialect = find_dialect(operator_class)
    headings = {_read_heading(paragraph) for paragraph in own}
    inherited = [
        paragraph
        for paragraph in _split_paragraphs(common)[1:]
        if _read_heading(paragraph) not in headings and _is_taken(paragraph, dialect)
    ]
    return "\n".join([f"{text.rstrip()}\n", *own, *inherited])


def _split_paragraphs(docstring: str) -> list[str]:
    """Return the text of a docstring, and the paragraph of each argument and error."""
    return re.split(r"\n(?=:)", inspect.cleandoc(docstring))


def _read_heading(paragraph: str) -> str:
    return paragraph[1:].partition(":")[0]


def _is_taken(paragraph: str, dialect: Dialect | None) -> bool:
    if dialect is None:
        return True
    name = _read_heading(paragraph).rpartition(" ")[2]
    needed = NEEDED_CAPABILITIES.get(name)
    # The operators of the services take each start field as its own argument.
    return name != "start_fields" and (needed is None or needed in dialect.capabilities)
