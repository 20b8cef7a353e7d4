"""A hook of MkDocs: replaces marks such as ``<!-- errors -->`` with texts from the package."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks import errors
from airflow_agent_tasks.connection_form import LIGHTCONE_FORM, SHINZO_FORM

JSON_TYPES = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Return the text of a page with its marks replaced."""
    for mark, build in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, build())
    return markdown


def build_connection_fields() -> str:
    """Return a table with a row for each extra field of the connection types."""
    forms = (LIGHTCONE_FORM, SHINZO_FORM)
    fields = {field.name: field for form in forms for field in form.fields}
    rows = ["| extra | in the form | type | connection | |", "| --- | --- | --- | --- | --- |"]
    for name, field in fields.items():
        types = ", ".join(f"`{form.conn_type}`" for form in forms if field in form.fields)
        rows.append(
            f"| `{name}` | {field.label} | {JSON_TYPES[field.kind]} | {types} | {field.description} |"
        )
    return "\n".join(rows)


def list_error_classes() -> list[type[errors.AgentTaskError]]:
    """Return every exception of the package, in the order of its module."""
    return [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.AgentTaskError)
    ]


def build_errors() -> str:
    """Return the tree of the exceptions, and a mark per exception for mkdocstrings."""
    classes = list_error_classes()
    return "\n\n".join(
        [errors.__doc__ or "", *(f"::: {errors.__name__}.{found.__name__}" for found in classes)]
    )


MARKS = {"<!-- connection fields -->": build_connection_fields, "<!-- errors -->": build_errors}
