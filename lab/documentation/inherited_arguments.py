"""
Shows all arguments of a constructor on the reference pages, including those behind ``**kwargs``.

An extension of griffe, which reads the docstrings for the documentation site. Without it, an inherited
argument would appear as required, and without its type and default.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

#: A role of reStructuredText, such as :class:`AgentTaskOperator`; the site is written in Markdown.
ROLE = re.compile(r":(?:class|func|meth|attr|mod|data|exc):`~?([^`]+)`")


class InheritedArguments(griffe.Extension):
    """Adds to a constructor the arguments that its ``**kwargs`` passes on to our own base classes."""

    def on_class_members(self, *, node: Any, cls: griffe.Class, agent: Any, **kwargs: Any) -> None:
        """Complete the constructor's parameters, once its class has been read."""
        runtime = getattr(node, "obj", None)
        constructor = cls.members.get("__init__")
        if isinstance(runtime, type) and isinstance(constructor, griffe.Function):
            for name, parameter in _list_inherited(runtime):
                if name not in constructor.parameters:
                    constructor.parameters.add(_convert(name, parameter))

    def on_instance(self, *, node: Any, obj: griffe.Object, agent: Any, **kwargs: Any) -> None:
        """Turn the roles of a docstring into code."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)


def _list_inherited(runtime: type) -> list[tuple[str, inspect.Parameter]]:
    ours = [base for base in runtime.__mro__[1:] if base.__module__.startswith("airflow_agent_tasks.")]
    constructors = [vars(base)["__init__"] for base in ours if "__init__" in vars(base)]
    return [
        (name, parameter)
        for constructor in constructors
        for name, parameter in inspect.signature(constructor).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]


def _convert(name: str, parameter: inspect.Parameter) -> griffe.Parameter:
    has_default = parameter.default is not parameter.empty
    return griffe.Parameter(
        name,
        annotation=str(parameter.annotation),
        kind=griffe.ParameterKind.keyword_only,
        default=repr(parameter.default) if has_default else None,
    )
