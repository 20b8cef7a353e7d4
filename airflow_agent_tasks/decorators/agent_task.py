"""
``@task.lightcone`` and ``@task.shinzo``.

The decorated function runs on the worker and returns the instruction, or a dict of start fields. The
service's operator then runs as if it had been given them. The returned values are not rendered as templates:
they may contain text from an agent or a web page, which could request ``{{ conn… }}``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    task_decorator_factory,
)

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.operators.agent_task import AgentTaskOperator
from airflow_agent_tasks.operators.argument_names import find_similar
from airflow_agent_tasks.operators.arguments import check_arguments
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.operators.task_documentation import build_documentation
from airflow_agent_tasks.services.base import Capability
from airflow_agent_tasks.services.start_fields import RENDERED_LATER
from airflow_agent_tasks.text import shorten
from airflow_agent_tasks.worker.failures import airflow_failures, reported_failures

if TYPE_CHECKING:
    from airflow.sdk import Context
    from typing_extensions import Unpack

    from airflow_agent_tasks.operators.keywords import LightconeDecoratorArguments, ShinzoDecoratorArguments

#: Arguments of Airflow's decorators that operators do not have.
AIRFLOW_DECORATOR_ARGUMENTS = {"on_failure_fail_dagrun"}


class _DecoratedAgentTaskOperator(DecoratedOperator, AgentTaskOperator):
    """Calls the function, and runs the operator with the start fields that it returns."""

    custom_operator_name: str

    def __init__(self, **kwargs: Any) -> None:
        _refuse_instruction(type(self), kwargs)
        returned_later: dict[str, Any] = {self.hook_class.dialect.instruction_field: None}
        # Airflow shows the function's docstring only if a task has no documentation; ours always has some.
        own = inspect.getdoc(kwargs["python_callable"])
        documentation: dict[str, Any] = (
            {"doc_md": own} if own and build_documentation(type(self), kwargs) else {}
        )
        super().__init__(**returned_later, **documentation, **kwargs)

    def _check_start_fields(self, start_fields: Mapping[str, Any]) -> None:
        returned_later = {self.hook_class.dialect.instruction_field: RENDERED_LATER}
        super()._check_start_fields({**start_fields, **returned_later})

    def execute(self, context: Context) -> Any:
        context_merge(context, self.op_kwargs)
        returned = self.python_callable(*self.op_args, **self.determine_kwargs(context))
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        reported = reported_failures(context["ti"], self.log, pushes_xcoms=bool(self.do_xcom_push))
        with reported, airflow_failures():
            for name, value in self._read_fields(returned).items():
                setattr(self, name, value)
        return AgentTaskOperator.execute(self, context)

    def _read_fields(self, returned: Any) -> Mapping[str, Any]:
        dialect = self.hook_class.dialect
        fields = {dialect.instruction_field: returned} if isinstance(returned, str) else returned
        agents = ("agent_id",) if Capability.AGENT_CHOICE in dialect.capabilities else ()
        allowed = (*agents, *self.start_field_names)
        if isinstance(fields, Mapping) and set(allowed).issuperset(fields):
            return fields
        raise AgentTaskArgumentError(
            f"The function of {self.custom_operator_name} must return the {dialect.instruction_field} as a "
            f"string, or a dict of start fields; it returned {_describe(fields, allowed)}."
        )


def _describe(fields: Any, allowed: Sequence[str]) -> str:
    if not isinstance(fields, Mapping):
        return f"a {type(fields).__name__}"
    wrong = min(str(name) for name in fields if name not in allowed)
    similar = find_similar(wrong, allowed)
    return f"the unknown field {shorten(repr(wrong))}" + (f" (did you mean {similar!r}?)" if similar else "")


def _refuse_instruction(operator_class: type[_DecoratedAgentTaskOperator], given: Mapping[str, Any]) -> None:
    field = operator_class.hook_class.dialect.instruction_field
    if field in given:
        raise AgentTaskArgumentError(
            f"{operator_class.custom_operator_name} does not accept {field}: return it from the function."
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


class _ShinzoDecoratedOperator(_DecoratedAgentTaskOperator, ShinzoTaskOperator):
    custom_operator_name = "@task.shinzo"
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ShinzoTaskOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ShinzoTaskOperator.template_fields_renderers,
    }


def _decorate(
    operator_class: type[_DecoratedAgentTaskOperator],
    python_callable: Callable[..., Any] | None,
    arguments: Mapping[str, Any],
) -> TaskDecorator:
    # Checked here, because Airflow creates the operator of a mapped function only when its task runs.
    _refuse_instruction(operator_class, arguments)
    own = {name: value for name, value in arguments.items() if name not in AIRFLOW_DECORATOR_ARGUMENTS}
    check_arguments(operator_class, own)
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=operator_class, **arguments
    )


def lightcone_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Unpack[LightconeDecoratorArguments]
) -> Any:
    """
    Turn a function that returns an instruction into a task that runs it on Lightcone.

    Equivalent to ``@task.lightcone``, but with arguments that editors and type checkers know.

    ```python
    @lightcone_task(start_url="https://shop.example", timeout=1800)
    def order(litres: int) -> str:
        return f"Order {litres} litres of milk for tomorrow."
    ```

    :param python_callable: The decorated function. It runs on the worker and returns the instruction, or a
        dict of start fields. The returned values are not rendered as templates.
    :param kwargs: The arguments of ``LightconeTaskOperator``, except ``instruction``. ``task_id`` defaults to
        the function's name.
    :raises AgentTaskArgumentError: for an argument that ``LightconeTaskOperator`` does not have.
    """
    return _decorate(_LightconeDecoratedOperator, python_callable, kwargs)


def shinzo_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Unpack[ShinzoDecoratorArguments]
) -> Any:
    """
    Turn a function that returns a message into a task of a Shinzo agent.

    Equivalent to ``@task.shinzo``, but with arguments that editors and type checkers know.

    ```python
    @shinzo_task(agent_id="agt_suppliers", deferrable=True)
    def check(supplier: str) -> str:
        return f"Find out whether we can rely on {supplier}."
    ```

    :param python_callable: The decorated function. It runs on the worker and returns the message, or a dict
        of submit fields, which may include ``agent_id``. The returned values are not rendered as templates.
    :param kwargs: The arguments of ``ShinzoTaskOperator``, except ``message``. ``task_id`` defaults to the
        function's name.
    :raises AgentTaskArgumentError: for an argument that ``ShinzoTaskOperator`` does not have.
    """
    return _decorate(_ShinzoDecoratedOperator, python_callable, kwargs)
