"""Limits what Airflow stores of a task's rendered fields to those that are set. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator


class StoresSetFields(BaseOperator):
    """
    An operator whose task stores only the rendered fields that are set, and so shows only these on its page.

    For each field, Airflow builds a validator, which takes a millisecond, and an agent task has twenty of
    them in each of its executions.
    """

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(parent, *args, **kwargs)
        # Also called for the parts of a field that have template fields of their own.
        if parent is self:
            names = (name for name in self.template_fields if getattr(self, name, None) is not None)
            self.template_fields = list(names)
