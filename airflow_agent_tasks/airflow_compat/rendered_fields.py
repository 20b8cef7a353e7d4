"""Limits what Airflow stores of a task's rendered fields, and when. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator


class StoresSetFields(BaseOperator):
    """
    An operator whose task stores only the rendered fields that are set, and so shows only these on its page.

    For each field, Airflow builds a validator, which takes a millisecond, and an agent task has twenty of
    them. An execution that resumes stores none: the first one has stored what the agent was started with, and
    storing is one of Airflow's slowest requests.
    """

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Any, *args: Any, **kwargs: Any
    ) -> None:
        super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)
        # Also called for the parts of a field that have template fields of their own.
        if parent is self:
            names = [name for name in self.template_fields if getattr(self, name, None) is not None]
            self.template_fields = [] if _is_resumed(context["ti"]) else names


def _is_resumed(task_instance: Any) -> bool:
    from_server = getattr(task_instance, "_ti_context_from_server", None)
    return getattr(from_server, "next_method", None) is not None
