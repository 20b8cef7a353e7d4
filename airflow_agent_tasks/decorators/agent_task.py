"""
``@task.lightcone`` and ``@task.shinzo``.

The decorated function runs on the worker and returns the instruction, or a dict of start fields; then the
service's operator goes on as if it had been given them. What it returns is not rendered as a template:
it may hold the words of an agent or of a web page, which could ask for ``{{ conn… }}``.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import context_merge

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.operators.agent_task import AgentTaskOperator
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.text import shorten
from airflow_agent_tasks.worker.airflow_errors import airflow_failures

if TYPE_CHECKING:
    from airflow.sdk import Context


class _DecoratedAgentTaskOperator(DecoratedOperator, AgentTaskOperator):
    """Calls the function, takes what it returns as start fields, and goes on as the operator does."""

    custom_operator_name: str

    def execute(self, context: Context) -> Any:
        context_merge(context, self.op_kwargs)
        returned = self.python_callable(*self.op_args, **self.determine_kwargs(context))
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        with airflow_failures():
            for name, value in self._read_fields(returned).items():
                setattr(self, name, value)
        return AgentTaskOperator.execute(self, context)

    def _read_fields(self, returned: Any) -> Mapping[str, Any]:
        dialect = self.hook_class.dialect
        fields = {dialect.instruction_field: returned} if isinstance(returned, str) else returned
        allowed = ("agent_id", *self.start_field_names)
        if isinstance(fields, Mapping) and set(allowed).issuperset(fields):
            return fields
        raise AgentTaskArgumentError(
            f"The function of {self.custom_operator_name} must return the {dialect.instruction_field} as a "
            f"text, or a dict of start fields; it returned {_describe(fields, allowed)}."
        )


def _describe(fields: Any, allowed: Sequence[str]) -> str:
    if not isinstance(fields, Mapping):
        return f"a {type(fields).__name__}"
    wrong = min(str(name) for name in fields if name not in allowed)
    similar = difflib.get_close_matches(wrong, allowed, n=1)
    return f"the unknown field {shorten(repr(wrong))}" + (
        f" (did you mean {similar[0]!r}?)" if similar else ""
    )


class _LightconeDecoratedOperator(_DecoratedAgentTaskOperator, LightconeTaskOperator):
    custom_operator_name = "@task.lightcone"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *LightconeTaskOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **LightconeTaskOperator.template_fields_renderers,
    }

    def __init__(self, *, instruction: Any = None, **kwargs: Any) -> None:
        super().__init__(instruction=instruction, **kwargs)


class _ShinzoDecoratedOperator(_DecoratedAgentTaskOperator, ShinzoTaskOperator):
    custom_operator_name = "@task.shinzo"
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ShinzoTaskOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ShinzoTaskOperator.template_fields_renderers,
    }

    def __init__(self, *, message: Any = None, **kwargs: Any) -> None:
        super().__init__(message=message, **kwargs)


def lightcone_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a function that returns an instruction into a Lightcone task.

    :param python_callable: The function; it returns the instruction, or a dict of start fields.
    :param kwargs: All other arguments of :class:`LightconeTaskOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_LightconeDecoratedOperator, **kwargs
    )


def shinzo_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a function that returns a message into a task of a Shinzo agent.

    :param python_callable: The function; it returns the message, or a dict of submit fields.
    :param kwargs: All other arguments of :class:`ShinzoTaskOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_ShinzoDecoratedOperator, **kwargs
    )
