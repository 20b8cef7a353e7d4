"""A hook of MkDocs: puts a table of the connection forms' fields where a page has the mark for it."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.connection_form import LIGHTCONE_FORM, SHINZO_FORM

MARK = "<!-- connection fields -->"
JSON_TYPES = {"string": "text", "number": "number", "boolean": "true or false"}


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Return the text of a page with the table."""
    return markdown.replace(MARK, build_table())


def build_table() -> str:
    """Return a Markdown table with a row for each extra field of the connection types."""
    forms = (LIGHTCONE_FORM, SHINZO_FORM)
    fields = {field.name: field for form in forms for field in form.fields}
    rows = ["| extra | in the form | type | connection | |", "| --- | --- | --- | --- | --- |"]
    for name in sorted(fields):
        field = fields[name]
        types = ", ".join(f"`{form.conn_type}`" for form in forms if field in form.fields)
        rows.append(
            f"| `{name}` | {field.label} | {JSON_TYPES[field.kind]} | {types} | {field.description} |"
        )
    return "\n".join(rows)
