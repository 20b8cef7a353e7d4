"""The documentation that the Airflow UI shows for a task whose author wrote none."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from airflow.sdk import BaseOperator

from airflow_agent_tasks.documentation import link

_DOC_ARGUMENTS = frozenset({"doc", "doc_md", "doc_json", "doc_yaml", "doc_rst"})
_PAGES = {
    "Results, exit codes and XCom keys": "reference/xcom",
    "Debug a stuck or failed task": "how-to/debug-a-stuck-task",
    "What retrying, clearing or marking a task does to the agent": "explanation/guarantees",
    "Answer an agent's question": "explanation/questions",
}


def build_documentation(operator_class: type[BaseOperator], given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the argument ``doc_md`` for a task, or nothing if it has documentation of its own.

    :param given: The task's arguments; those in ``default_args`` count too.
    """
    if _DOC_ARGUMENTS.intersection([*given, *(given.get("default_args") or {})]):
        return {}
    return {"doc_md": _describe(operator_class)}


@cache
def _describe(operator_class: type[BaseOperator]) -> str:
    # Once per class: a DAG file may hold thousands of tasks, and is parsed again and again.
    summary = (inspect.getdoc(operator_class) or operator_class.__name__).partition("\n\n")[0]
    pages = "\n".join(f"- [{title}]({link(page)})" for title, page in _PAGES.items())
    return f"{summary}\n\n{pages}\n"
