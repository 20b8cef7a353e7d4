"""The connection form is what Airflow accepts, and what the hooks read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import Connection

from airflow_agent_tasks.connection_form import LIGHTCONE_FORM, SHINZO_FORM
from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from airflow_agent_tasks.provider_info import get_provider_info

HOOKS = (LightconeHook, ShinzoHook)
SCHEMAS = Path(airflow.__file__).parent


def read_schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / name).read_text())
    return schema


class NotingMapping(Mapping[str, Any]):
    """An extra that notes which of its fields were read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())  # their names are compared with the form's

    def __len__(self) -> int:
        return 1


def test_the_metadata_is_what_airflow_accepts() -> None:
    jsonschema.validate(get_provider_info(), read_schema("provider_info.schema.json"))


def test_the_connection_types_are_what_airflow_asks_of_its_own_providers() -> None:
    schema = read_schema("provider.yaml.schema.json")
    schema = {**schema["properties"]["connection-types"], "definitions": schema["definitions"]}
    jsonschema.validate(get_provider_info()["connection-types"], schema)


@pytest.mark.parametrize("hook_class", HOOKS)
def test_every_field_of_the_form_is_read_and_no_other(hook_class: type[Any]) -> None:
    extra = NotingMapping()
    hook = hook_class()
    hook.connection = Connection(conn_id="c1", conn_type=hook_class.conn_type, password="sk_1")
    hook.extra = extra
    assert hook.settings.base_url == hook_class.dialect.default_base_url
    hook.resolve_agent_id(None)
    assert extra.read == {field.name for field in hook_class.form.fields}


@pytest.mark.parametrize("hook_class", HOOKS)
def test_the_hook_and_its_form_agree(hook_class: type[Any]) -> None:
    form = hook_class.form
    assert form.conn_type == hook_class.conn_type == hook_class.dialect.service
    assert form.hook_name == hook_class.hook_name
    assert form.hook_class_name == f"{hook_class.__module__}.{hook_class.__name__}"
    assert form.base_url == hook_class.dialect.default_base_url
    assert hook_class.default_conn_name == f"{form.conn_type}_default"
    behaviour = hook_class.get_ui_field_behaviour()
    assert behaviour["relabeling"]["password"] == form.key_label
    assert form.to_metadata()["ui-field-behaviour"] == {
        name.replace("_", "-"): value for name, value in behaviour.items()
    }


@pytest.mark.parametrize("form", [LIGHTCONE_FORM, SHINZO_FORM], ids=["lightcone", "shinzo"])
@pytest.mark.parametrize(
    ("value", "is_accepted"),
    [
        ({}, True),
        ({"timeout": None, "verify": None, "proxy": None}, True),
        ({"timeout": 5, "verify": "false", "proxy": "http://p", "requests_per_second": 0.5}, True),
        ({"allow_insecure_http": True}, True),
        ({"timeout": 0}, False),
        ({"timeout": "5"}, False),
        ({"requests_per_second": -1}, False),
        ({"allow_insecure_http": "true"}, False),
    ],
)
def test_the_form_checks_what_is_typed(form: Any, value: dict[str, Any], is_accepted: bool) -> None:
    fields = form.to_metadata()["conn-fields"]
    schema = {"type": "object", "properties": {name: field["schema"] for name, field in fields.items()}}
    assert jsonschema.validators.validator_for(schema)(schema).is_valid(value) is is_accepted


@pytest.mark.parametrize("hook_class", HOOKS)
def test_the_form_and_the_hook_accept_the_same_numbers(hook_class: type[Any], connect: Any) -> None:
    schemas = {field.name: field.to_metadata()["schema"] for field in hook_class.form.fields}
    for name in ("timeout", "requests_per_second"):
        for limit in (schemas[name]["minimum"], schemas[name]["maximum"]):
            connect("c1", conn_type=hook_class.conn_type, extra={name: limit})
            assert getattr(hook_class("c1").settings, name) == limit
        for beyond in (schemas[name]["minimum"] / 2, schemas[name]["maximum"] * 2):
            connect("c1", conn_type=hook_class.conn_type, extra={name: beyond})
            with pytest.raises(AgentTaskConfigurationError, match=name):
                _ = hook_class("c1").settings


def test_airflow_knows_both_connection_types() -> None:
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    hooks = ProvidersManagerTaskRuntime().hooks
    assert hooks["lightcone"].hook_name == "Lightcone"
    assert hooks["shinzo"].hook_name == "Shinzo"
    assert hooks["lightcone"].connection_id_attribute_name == "lightcone_conn_id"


def test_secret_fields_are_hidden_while_they_are_typed() -> None:
    for form in (LIGHTCONE_FORM, SHINZO_FORM):
        hidden = [
            name
            for name, field in form.to_metadata()["conn-fields"].items()
            if field["schema"].get("format") == "password"
        ]
        assert hidden == ["proxy"]
