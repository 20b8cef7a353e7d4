"""
The connection forms, declared once for the provider metadata and for the hooks. Imports no Airflow.

Source: Airflow's provider metadata, ``conn-fields`` and ``ui-field-behaviour``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_agent_tasks.services.lightcone import LightconeDialect
from airflow_agent_tasks.services.shinzo import ShinzoDialect

#: The bounds of the number fields; beyond these, timers overflow.
SMALLEST_NUMBER, LARGEST_NUMBER = 0.001, 86_400


@dataclass(frozen=True)
class ExtraField:
    """
    One named extra of a connection.

    :param name: Its key in the connection's extra.
    :param label: What the form calls it.
    :param description: What the form says below it.
    :param kind: Its JSON type: ``string``, ``number`` or ``boolean``.
    :param is_secret: True where the form hides what is typed.
    """

    name: str
    label: str
    description: str
    kind: str = "string"
    is_secret: bool = False

    def to_metadata(self) -> dict[str, Any]:
        """Return the field as Airflow's ``conn-fields`` want it; an empty field is saved as null."""
        schema: dict[str, Any] = {"type": [self.kind, "null"]}
        if self.kind == "number":
            schema |= {"minimum": SMALLEST_NUMBER, "maximum": LARGEST_NUMBER}
        if self.is_secret:
            schema["format"] = "password"
        return {"label": self.label, "description": self.description, "schema": schema}


NETWORK_FIELDS = (
    ExtraField("timeout", "Timeout", "Seconds that one request may take. Default 30.", "number"),
    ExtraField(
        "verify",
        "Verify certificate",
        "true (default), false, or the path of a CA file on the workers and triggerers.",
    ),
    ExtraField(
        "proxy",
        "Proxy",
        "URL of a proxy, e.g. http://proxy.example.com:3128. Default: HTTPS_PROXY of the environment.",
        is_secret=True,  # it may hold a user's password
    ),
    ExtraField(
        "requests_per_second",
        "Requests per second",
        "At most so many requests a second from each process. Default: no limit.",
        "number",
    ),
    ExtraField(
        "allow_insecure_http",
        "Allow http://",
        "Allows http:// to other hosts than this machine, which sends the key in the clear.",
        "boolean",
    ),
)


@dataclass(frozen=True)
class ConnectionForm:
    """
    The form of one connection type.

    :param conn_type: The connection type, which is the service's name.
    :param hook_class_name: Dotted path of the hook.
    :param hook_name: The type's name in the list of connection types.
    :param key_label: What the password field is called.
    :param base_url: The service's own address, shown as the host's placeholder.
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
        """Return what ``BaseHook.get_ui_field_behaviour`` is to return."""
        return {
            "hidden_fields": ["schema", "login", "port"],
            "relabeling": {"password": self.key_label, "host": "Base URL"},
            "placeholders": {"host": self.base_url, "password": "never shown again"},
        }


LIGHTCONE_FORM = ConnectionForm(
    conn_type="lightcone",
    hook_class_name="airflow_agent_tasks.hooks.lightcone.LightconeHook",
    hook_name="Lightcone",
    key_label="API key",
    base_url=LightconeDialect.default_base_url,
    fields=NETWORK_FIELDS,
)
SHINZO_FORM = ConnectionForm(
    conn_type="shinzo",
    hook_class_name="airflow_agent_tasks.hooks.shinzo.ShinzoHook",
    hook_name="Shinzo",
    key_label="JWT or platform API key",
    base_url=ShinzoDialect.default_base_url,
    fields=(
        ExtraField("agent_id", "Default agent", "The agent that gets a task which names none."),
        *NETWORK_FIELDS,
    ),
)
