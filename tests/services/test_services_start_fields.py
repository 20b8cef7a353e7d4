"""Every start field of both services: what is sent, what is refused, and in which words."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.services.start_fields import RENDERED_LATER, read_rendered
from airflow_agent_tasks.text import shorten
from tests.service_samples import AGENT_ID, DIALECTS, LIGHTCONE, SHINZO, build_start


@dataclass(frozen=True)
class Kind:
    """The values that a kind of field takes, those it refuses, and the words of the refusal."""

    allowed: str
    good: tuple[Any, ...]
    bad: tuple[Any, ...]


NOT_NUMBERS: tuple[Any, ...] = (True, False, "5", "", [1], {}, b"5", math.nan, math.inf, -math.inf)
CIRCULAR: dict[str, Any] = {}
CIRCULAR["itself"] = CIRCULAR

TEXT = Kind(
    "a non-empty string",
    ("a", " a ", "ü\n\0", "None."),
    ("", "  ", "\n\t", "None", " None\n", 5, 0, True, b"a", ["a"], {"a": "b"}),
)
WHOLE_NUMBER = Kind("a positive integer", (1, 50, 2**40), (*NOT_NUMBERS, 0, -1, 1.0, 2.5))
PRIORITY = Kind("an integer from 1 to 10", tuple(range(1, 11)), (*NOT_NUMBERS, 0, -1, 11, 1.0, 2.5))
POSITIVE_NUMBER = Kind(
    "a positive number", (1, 0.5, 3600, 10**400), (*NOT_NUMBERS, 0, 0.0, -1, -0.5, -(10**400))
)
TEMPERATURE = Kind("a number of at least 0", (0, 0.0, 0.7, 2), (*NOT_NUMBERS, -1, -0.1))
BOOLEAN = Kind("True or False", (True, False), (0, 1, "true", "", [], {}, 1.0))
LABELS = Kind(
    "a dict of strings to strings",
    ({}, {"team": "data"}, {"": ""}),
    ({"a": 1}, {"a": None}, {1: "a"}, {"a": ["b"]}, [("a", "b")], "a", 5, True),
)
JSON_OBJECT = Kind(
    "a dict of JSON values",
    ({}, {"project": "frontend-app"}, {"a": [1, None, {"b": True}]}),
    ({1: "a"}, {"a": math.nan}, {"a": math.inf}, {"a": b"b"}, {"a": {1, 2}}, [], "a", 5, True, CIRCULAR),
)
TURNS = Kind(
    'a list of {"role": "user" or "assistant", "content": text}',
    ([], [{"role": "user", "content": "a"}], ({"role": "assistant", "content": ""},)),
    (
        "a",
        5,
        True,
        {},
        ["a"],
        [{"role": "system", "content": "a"}],
        [{"role": ["user"], "content": "a"}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": "a", "name": "b"}],
        [{"role": "user", "content": "a"}, None],
    ),
)
WEB_ADDRESS = Kind(
    "an http:// or https:// URL",
    ("http://a", "https://example.com:8080/b?c=d", "HTTPS://EXAMPLE.COM", "http://[::1]:8080/"),
    (
        *("", "a", "example.com", "//a", "http://", "http:///a", "ftp://a", "javascript:alert(1)"),
        *("http://[::1", "http://a b", "http://a\n", " http://a", 5, True, b"http://a", ["http://a"]),
    ),
)


def words(*allowed: str) -> Kind:
    quoted = ", ".join(f"'{word}'" for word in allowed)
    wrong: tuple[Any, ...] = (
        "unknown",
        "",
        " ",
        allowed[0].upper(),
        f" {allowed[0]}",
        1,
        0,
        True,
        [allowed[0]],
        {},
        b"a",
    )
    return Kind(f"one of {quoted}", allowed, wrong)


KINDS: dict[str, dict[str, Kind]] = {
    "lightcone": {
        "instruction": TEXT,
        "kind": words("desktop", "browser"),
        "agent_type": TEXT,
        "model": TEXT,
        "temperature": TEMPERATURE,
        "max_steps": WHOLE_NUMBER,
        "environment_id": TEXT,
        "persistent": BOOLEAN,
        "screenshot_mode": words("url", "base64"),
        "viewport_width": WHOLE_NUMBER,
        "viewport_height": WHOLE_NUMBER,
        "idempotency_key": TEXT,
        "max_duration_seconds": WHOLE_NUMBER,
        "metadata": LABELS,
        "start_url": WEB_ADDRESS,
        "system_prompt": TEXT,
        "context": TURNS,
        "computer_id": TEXT,
        "on_missing_computer": words("fail", "restore", "create_new"),
        "keep_alive": BOOLEAN,
        "terminate_on_completion": BOOLEAN,
        "save_session": BOOLEAN,
        "harness_version": words("v1", "v2"),
        "stream_mode": words("verbose", "concise"),
        "stream_deltas": BOOLEAN,
        "thread_id": TEXT,
        "agent_icon": TEXT,
    },
    "shinzo": {
        "message": TEXT,
        "priority": PRIORITY,
        "timeout_override": POSITIVE_NUMBER,
        "metadata": JSON_OBJECT,
        "callback_mode": words("poll", "webhook"),
        "webhook_url": WEB_ADDRESS,
    },
}
#: What a value needs beside it to be allowed.
COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("callback_mode", "webhook"): {"webhook_url": "https://example.com/done"},
    **{("webhook_url", url): {"callback_mode": "webhook"} for url in WEB_ADDRESS.good},
}


def companions_of(name: str, value: Any) -> dict[str, Any]:
    return COMPANIONS.get((name, value), {}) if isinstance(value, str) else {}


def list_values(which: str) -> list[Any]:
    return [
        pytest.param(service, name, value, id=f"{service}-{name}-{number}")
        for service, kinds in KINDS.items()
        for name, kind in kinds.items()
        for number, value in enumerate(getattr(kind, which))
    ]


@pytest.mark.parametrize("service", DIALECTS)
def test_every_start_field_is_in_the_table_of_this_file(service: str) -> None:
    assert [field.name for field in DIALECTS[service].start_fields] == list(KINDS[service])


@pytest.mark.parametrize(("service", "name", "value"), list_values("good"))
def test_an_allowed_value_is_sent_as_it_was_given(service: str, name: str, value: Any) -> None:
    dialect = DIALECTS[service]
    body = build_start(dialect, **{name: value, **companions_of(name, value)}).json
    assert body is not None
    assert body[name] is value
    assert set(body) == {dialect.instruction_field, name, *companions_of(name, value)}


@pytest.mark.parametrize(("service", "name", "value"), list_values("bad"))
def test_a_wrong_value_is_refused_with_the_field_the_value_and_what_is_allowed(
    service: str, name: str, value: Any
) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        build_start(DIALECTS[service], **{name: value})
    message = f"{name} must be {KINDS[service][name].allowed}, not {shorten(repr(value))}."
    assert str(caught.value).startswith(message)
    assert caught.value.is_final
    assert isinstance(caught.value, ValueError)


def test_a_long_wrong_value_does_not_make_a_long_message() -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        build_start(LIGHTCONE, max_steps="9" * 100_000)
    assert len(str(caught.value)) < 300


def test_metadata_nested_deeper_than_json_can_be_written_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    field = next(field for field in SHINZO.start_fields if field.name == "metadata")
    assert not field.accepts({"deep": deep})


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("is_none", [True, False])
def test_the_instruction_is_required(service: str, is_none: bool) -> None:
    dialect = DIALECTS[service]
    fields = {dialect.instruction_field: None} if is_none else {}
    with pytest.raises(AgentTaskArgumentError) as caught:
        dialect.build_start(fields, agent_id=AGENT_ID)
    message = f"{dialect.instruction_field} is required and must be a non-empty string."
    assert str(caught.value).startswith(message)
    assert ("A template renders to None if a value is missing" in str(caught.value)) is is_none


@pytest.mark.parametrize("service", DIALECTS)
def test_only_the_instruction_is_required(service: str) -> None:
    assert build_start(DIALECTS[service]).json == {DIALECTS[service].instruction_field: "Look."}


@pytest.mark.parametrize("service", DIALECTS)
def test_none_means_not_given(service: str) -> None:
    dialect = DIALECTS[service]
    others = {name: None for name in KINDS[service] if name != dialect.instruction_field}
    assert build_start(dialect, **others).json == {dialect.instruction_field: "Look."}


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("value", ["b", None])
def test_an_unknown_field_is_refused_with_the_known_ones(service: str, value: str | None) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        build_start(DIALECTS[service], instrucion=value)
    title = DIALECTS[service].title
    known = ", ".join(KINDS[service])
    assert str(caught.value) == f"{title} has no start field 'instrucion'. Its start fields are {known}."


def test_an_unknown_field_whose_name_is_no_text_is_refused_alike() -> None:
    with pytest.raises(AgentTaskArgumentError, match="Lightcone has no start field '1'"):
        LIGHTCONE.build_start({"instruction": "Look.", 1: "a", "z": "b"})  # type: ignore[dict-item]


@pytest.mark.parametrize("service", DIALECTS)
def test_all_fields_together_are_sent_in_the_order_of_the_services_page(service: str) -> None:
    fields = {name: kind.good[-1] for name, kind in KINDS[service].items()}
    request = DIALECTS[service].build_start(dict(reversed(fields.items())), agent_id=AGENT_ID)
    assert request.json == fields
    assert list(request.json or {}) == list(KINDS[service])


def test_a_webhook_needs_an_address() -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        build_start(SHINZO, callback_mode="webhook")
    assert str(caught.value) == "webhook_url is required with callback_mode='webhook'."


@pytest.mark.parametrize("mode", [{}, {"callback_mode": "poll"}, {"callback_mode": None}])
def test_a_webhook_url_without_the_callback_mode_is_rejected(mode: dict[str, Any]) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        build_start(SHINZO, webhook_url="https://example.com/done", **mode)
    assert (
        str(caught.value) == "webhook_url needs callback_mode='webhook'; without it Shinzo sends no webhook."
    )


@pytest.mark.parametrize(
    ("service", "name", "rendered", "expected"),
    [
        ("shinzo", "priority", "7", 7),
        ("shinzo", "priority", " +7 ", 7),
        ("shinzo", "timeout_override", "0.5", 0.5),
        ("shinzo", "timeout_override", "60", 60),
        ("shinzo", "metadata", '{"a": [1]}', {"a": [1]}),
        ("shinzo", "message", "7", "7"),
        ("shinzo", "webhook_url", "7", "7"),
        ("lightcone", "temperature", "1e-1", 0.1),
        ("lightcone", "max_steps", "12", 12),
        ("lightcone", "persistent", "True", True),
        ("lightcone", "persistent", " false ", False),
        ("lightcone", "metadata", '{"team": "data"}', {"team": "data"}),
        ("lightcone", "context", '[{"role": "user", "content": "a"}]', [{"role": "user", "content": "a"}]),
        ("lightcone", "model", "true", "true"),
    ],
)
def test_a_rendered_template_is_read_as_what_its_field_holds(
    service: str, name: str, rendered: str, expected: Any
) -> None:
    read = read_rendered(DIALECTS[service].start_fields, {name: rendered})[name]
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("service", "name", "value"),
    [
        ("shinzo", "priority", "high"),
        ("shinzo", "priority", ""),
        ("shinzo", "priority", "²"),
        ("shinzo", "priority", "--7"),
        ("shinzo", "metadata", "{'a': 1}"),
        ("shinzo", "metadata", "[" * 100_000),
        ("lightcone", "persistent", "yes"),
        ("lightcone", "context", "None"),
    ],
)
def test_a_rendered_text_that_cannot_be_read_stays_and_is_then_refused(
    service: str, name: str, value: str
) -> None:
    dialect = DIALECTS[service]
    read = read_rendered(dialect.start_fields, {name: value})
    assert read == {name: value}
    with pytest.raises(AgentTaskArgumentError, match=f"^{name} must be"):
        build_start(dialect, **read)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_a_rendered_number_that_is_not_finite_is_refused(number: str) -> None:
    with pytest.raises(AgentTaskArgumentError, match=r"^timeout_override must be a positive number"):
        build_start(SHINZO, **read_rendered(SHINZO.start_fields, {"timeout_override": number}))


def test_values_that_are_no_text_and_unknown_names_are_not_read() -> None:
    values = {"priority": 7, "metadata": {"a": 1}, "nonsense": "7", "message": None}
    assert read_rendered(SHINZO.start_fields, values) == values


@pytest.mark.parametrize("service", DIALECTS)
def test_what_is_sent_can_be_written_as_json(service: str) -> None:
    fields = {name: kind.good[0] for name, kind in KINDS[service].items() if name != "webhook_url"}
    assert json.loads(json.dumps(build_start(DIALECTS[service], **fields).json, allow_nan=False)) == fields


@pytest.mark.parametrize(
    "fields",
    [
        {"callback_mode": RENDERED_LATER},
        {"callback_mode": "webhook", "webhook_url": RENDERED_LATER},
        {"callback_mode": RENDERED_LATER, "webhook_url": "https://example.com/done"},
        {"webhook_url": RENDERED_LATER},
    ],
)
def test_what_is_rendered_later_is_checked_later(fields: dict[str, Any]) -> None:
    given = {"message": RENDERED_LATER, "priority": RENDERED_LATER, **fields}
    assert SHINZO.check_start_fields(given) == given
