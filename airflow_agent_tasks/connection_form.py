"""
The connection forms, declared once for the provider metadata and the hooks. Does not import Airflow.

Source: Airflow's provider metadata, ``conn-fields`` and ``ui-field-behaviour``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_agent_tasks.documentation import link
from airflow_agent_tasks.services.lightcone import LightconeDialect
from airflow_agent_tasks.services.shinzo import ShinzoDialect

#: The range of the number fields; timers overflow outside it.
SMALLEST_NUMBER, LARGEST_NUMBER = 0.001, 86_400
#: The largest whole number of a field for one.
LARGEST_COUNT = 100_000


@dataclass(frozen=True)
class ExtraField:
    """
    One named extra of a connection.

    :param name: Its key in the connection's extra.
    :param label: Its label in the form.
    :param description: The help text below it, in Markdown.
    :param kind: Its JSON type: ``string`` (default), ``number``, ``integer`` or ``boolean``.
    :param is_secret: True if the form hides the input; default False.
    """

    name: str
    label: str
    description: str
    kind: str = "string"
    is_secret: bool = False

    def to_metadata(self) -> dict[str, Any]:
        """Return the field as an entry of Airflow's ``conn-fields``; Airflow saves an empty field as null."""
        schema: dict[str, Any] = {"type": [self.kind, "null"]}
        if self.kind == "number":
            schema |= {"minimum": SMALLEST_NUMBER, "maximum": LARGEST_NUMBER}
        if self.kind == "integer":
            schema |= {"minimum": 1, "maximum": LARGEST_COUNT}
        if self.is_secret:
            schema["format"] = "password"
        # As Markdown, because Airflow shows a plain ``description`` as text, without the link.
        schema["description_md"] = f"{self.description} [More]({link('reference/connections#extra-fields')})"
        return {"label": self.label, "schema": schema}


NETWORK_FIELDS = (
    ExtraField(
        "timeout",
        "Timeout",
        "Seconds that one request may take, from the lookup of the host name to the last byte. Default: 30.",
        "number",
    ),
    ExtraField(
        "verify",
        "Verify certificate",
        "`true` (default), `false`, or the path of a CA file that exists on every machine that runs a "
        "worker, triggerer, scheduler or API server.",
    ),
    ExtraField(
        "proxy",
        "Proxy",
        "URL of a proxy, such as `http://proxy.example.com:3128`. Default: `HTTPS_PROXY` in the environment.",
        is_secret=True,  # it may contain a password
    ),
    ExtraField(
        "requests_per_second",
        "Requests per second",
        "Maximum number of requests per second that each process sends. Default: no limit.",
        "number",
    ),
    ExtraField(
        "max_concurrent_tasks",
        "Agent tasks at once",
        "Maximum number of agent tasks that run at once, whatever the DAGs ask; further ones wait before "
        "they are submitted. Default: no limit.",
        "integer",
    ),
    ExtraField(
        "allow_insecure_http",
        "Allow http://",
        "Allow `http://` to hosts other than this machine. It sends the key unencrypted. Default: off.",
        "boolean",
    ),
)


def _build_task_url_field(address: str) -> ExtraField:
    """Return the field for the address of an agent task's page; no service documents one."""
    return ExtraField(
        "task_url",
        "Agent task page",
        f"URL of the service's own page of an agent task, such as `{address}`. The page of each Airflow task "
        "links to it. Default: no link.",
    )


@dataclass(frozen=True)
class ConnectionForm:
    """
    The form of one connection type.

    :param conn_type: The connection type, which is the service's name.
    :param hook_class_name: Dotted path of the hook.
    :param hook_name: The type's name in the list of connection types.
    :param key_label: The label of the password field.
    :param base_url: The service's own URL, shown as the host's placeholder.
    :param fields: The named extras.
    """

    conn_type: str
    hook_class_name: str
    hook_name: str
    key_label: str
    base_url: str
    fields: tuple[ExtraField, ...]

    def to_metadata(self) -> dict[str, Any]:
        """Return the entry under ``connection-types`` in the provider metadata."""
        behaviour = self.build_field_behaviour()
        return {
            "connection-type": self.conn_type,
            "hook-class-name": self.hook_class_name,
            "hook-name": self.hook_name,
            "conn-fields": {field.name: field.to_metadata() for field in self.fields},
            "ui-field-behaviour": {key.replace("_", "-"): value for key, value in behaviour.items()},
        }

    def build_field_behaviour(self) -> dict[str, Any]:
        """
        Return the value for ``BaseHook.get_ui_field_behaviour``.

        The port is shown, because the **Test** button of Airflow 3.3.2 refuses to reuse the stored key of a
        connection that has no port.
        """
        return {
            "hidden_fields": ["login"],
            "relabeling": {"password": self.key_label, "host": "Base URL", "schema": "Scheme"},
            "placeholders": {
                "host": self.base_url,
                "password": "never shown again",
                "port": "443",
                "schema": "https",
            },
        }


LIGHTCONE_FORM = ConnectionForm(
    conn_type="lightcone",
    hook_class_name="airflow_agent_tasks.hooks.lightcone.LightconeHook",
    hook_name="Lightcone",
    key_label="API key",
    base_url=LightconeDialect.default_base_url,
    fields=(_build_task_url_field("https://app.example.com/tasks/{task_id}"), *NETWORK_FIELDS),
)
SHINZO_FORM = ConnectionForm(
    conn_type="shinzo",
    hook_class_name="airflow_agent_tasks.hooks.shinzo.ShinzoHook",
    hook_name="Shinzo",
    key_label="JWT or platform API key",
    base_url=ShinzoDialect.default_base_url,
    fields=(
        ExtraField("agent_id", "Default agent", "Agent used when a task sets none, such as `agt_research`."),
        _build_task_url_field("https://app.example.com/agents/{agent_id}/tasks/{task_id}"),
        *NETWORK_FIELDS,
    ),
)
