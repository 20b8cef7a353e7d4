"""Replies that bring no agent task: which error, whether to ask again, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskRejectedError,
    AgentTaskReplyError,
    AgentTaskRequestError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.http import MAY_HAVE_ACTED, Request, Response
from airflow_agent_tasks.text import shorten
from tests.service_samples import (
    AGENT_ID,
    DIALECTS,
    LIGHTCONE,
    NOW,
    SHINZO,
    TASK_ID,
    build_message,
    build_start,
    build_status,
    build_stop,
    json_reply,
    parse_started,
    parse_task,
)

#: HTTP status, error of a request without an effect, error of one with an effect.
STATUSES: list[tuple[int, type[AgentTaskRequestError], type[AgentTaskRequestError]]] = [
    (301, AgentTaskRejectedError, AgentTaskUncertainError),
    (302, AgentTaskRejectedError, AgentTaskUncertainError),
    (304, AgentTaskRejectedError, AgentTaskUncertainError),
    (400, AgentTaskRejectedError, AgentTaskRejectedError),
    (401, AgentTaskAuthenticationError, AgentTaskAuthenticationError),
    (403, AgentTaskAuthenticationError, AgentTaskAuthenticationError),
    (404, AgentTaskNotFoundError, AgentTaskNotFoundError),
    (405, AgentTaskRejectedError, AgentTaskRejectedError),
    (101, AgentTaskUnavailableError, AgentTaskUncertainError),
    (408, AgentTaskUnavailableError, AgentTaskUnavailableError),
    (425, AgentTaskUnavailableError, AgentTaskUnavailableError),
    (499, AgentTaskUnavailableError, AgentTaskUncertainError),
    (600, AgentTaskUnavailableError, AgentTaskUncertainError),
    (409, AgentTaskRejectedError, AgentTaskRejectedError),
    (422, AgentTaskRejectedError, AgentTaskRejectedError),
    (429, AgentTaskRateLimitedError, AgentTaskRateLimitedError),
    (500, AgentTaskUnavailableError, AgentTaskUncertainError),
    (502, AgentTaskUnavailableError, AgentTaskUncertainError),
    (503, AgentTaskUnavailableError, AgentTaskUnavailableError),
    (504, AgentTaskUnavailableError, AgentTaskUncertainError),
    (520, AgentTaskUnavailableError, AgentTaskUncertainError),
    (529, AgentTaskUnavailableError, AgentTaskUncertainError),
]
FINAL_STATUSES = {400, 401, 403, 422}

BUILDERS = {"status": build_status, "stop": build_stop, "start": build_start, "message": build_message}
WITH_EFFECT = {"start", "message"}


def refuse(dialect: Dialect, response: Response, request: Request | None = None) -> AgentTaskRequestError:
    """Return the error that a reply makes."""
    with pytest.raises(AgentTaskRequestError) as caught:
        parse_task(dialect, response, request)
    return caught.value


# --- the HTTP status comes first -----------------------------------------------------------------------


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize(("status", "harmless", "acting"), STATUSES)
def test_each_http_status_has_its_error(
    service: str,
    kind: str,
    status: int,
    harmless: type[AgentTaskRequestError],
    acting: type[AgentTaskRequestError],
) -> None:
    dialect = DIALECTS[service]
    request = BUILDERS[kind](dialect)
    error = refuse(dialect, json_reply({"task_id": "a", "status": "completed"}, status), request)
    expected = acting if kind in WITH_EFFECT else harmless
    assert type(error) is expected
    assert error.status == status
    assert error.is_transient is issubclass(expected, AgentTaskUnavailableError)
    assert error.is_final is (status in FINAL_STATUSES or expected is AgentTaskUncertainError)
    assert (MAY_HAVE_ACTED in str(error)) is (expected is AgentTaskUncertainError)
    assert str(error).startswith(f"Could not {request.purpose}: {dialect.title} answered {status} (")


@pytest.mark.parametrize("body", [b"", b"<html>Not Found</html>", b"404 page not found", b"[]", b'{"a":'])
@pytest.mark.parametrize("kind", BUILDERS)
def test_a_404_of_a_gateway_does_not_say_that_the_agent_task_is_gone(kind: str, body: bytes) -> None:
    error = refuse(LIGHTCONE, Response(404, {}, body), BUILDERS[kind](LIGHTCONE))
    if kind in WITH_EFFECT:  # nothing was started or read
        assert type(error) is AgentTaskNotFoundError
        return
    assert type(error) is AgentTaskReplyError
    assert (error.status, error.is_transient, error.is_final) == (404, True, False)
    assert "something on the way" in str(error)


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_every_2xx_is_a_success(status: int) -> None:
    assert parse_task(SHINZO, json_reply({"status": "running"}, status)).status is TaskState.RUNNING
    LIGHTCONE.check_status(build_start(LIGHTCONE), Response(status), now=NOW)


def test_a_start_is_refused_in_the_same_way() -> None:
    with pytest.raises(
        AgentTaskNotFoundError, match="Could not submit a task to agent 'agt_01': Shinzo answered"
    ):
        parse_started(SHINZO, json_reply({"error": "Agent not found"}, 404))


@pytest.mark.parametrize(("status", "harmless", "acting"), STATUSES)
def test_only_transient_errors_carry_the_wait_that_the_service_asked_for(
    status: int, harmless: type[AgentTaskRequestError], acting: type[AgentTaskRequestError]
) -> None:
    error = refuse(SHINZO, Response(status, {"retry-after": "7"}))
    expected = 7.0 if issubclass(harmless, AgentTaskUnavailableError) else None
    assert getattr(error, "retry_after", None) == expected


@pytest.mark.parametrize("status", [429, 503])
def test_an_acting_request_that_was_refused_for_now_carries_it_too(status: int) -> None:
    error = refuse(LIGHTCONE, Response(status, {"retry-after-ms": "1500"}), build_start(LIGHTCONE))
    assert isinstance(error, AgentTaskUnavailableError)
    assert error.retry_after == 1.5


def test_without_the_header_no_wait_is_asked_for() -> None:
    error = refuse(LIGHTCONE, Response(429))
    assert isinstance(error, AgentTaskRateLimitedError)
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("service", "status", "explanation"),
    [
        (
            "lightcone",
            status,
            "Check the key in the connection's password field (it starts with sk_). It was sent only once: "
            "Lightcone blocks an address after 10 failed authentications in 10 minutes.",
        )
        for status in (401, 403)
    ]
    + [
        ("shinzo", 401, "Check the JWT or platform API key in the connection's password field."),
        ("shinzo", 403, "The account of this key has no agents enabled."),
    ],
)
def test_a_refused_key_is_explained(service: str, status: int, explanation: str) -> None:
    assert str(refuse(DIALECTS[service], json_reply({"error": "no"}, status))).endswith(
        f"('no'). {explanation}"
    )


def test_a_dialect_without_an_explanation_of_its_own_names_the_password_field() -> None:
    hint = Dialect._key_hint(LIGHTCONE, 401)
    assert hint == "Check the key in the connection's password field."


def test_a_redirect_is_explained() -> None:
    error = refuse(LIGHTCONE, Response(302, {"location": "https://elsewhere.example"}))
    assert str(error) == (
        f"Could not get agent task {TASK_ID!r} of {AGENT_ID!r}: Lightcone answered 302 (an empty body). "
        "Redirects are not followed, because they would send the key elsewhere. Set the connection's host "
        "to the service's final URL."
    )


# --- what the service said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"error": "Invalid request"}, "Invalid request"),
        ({"message": "Invalid request"}, "Invalid request"),
        ({"detail": "Invalid request"}, "Invalid request"),
        ({"msg": "Invalid request"}, "Invalid request"),
        ({"error": {"message": "deep", "code": 5}}, "deep"),
        ({"detail": [{"loc": ["body", "kind"], "msg": "field required"}]}, "field required"),
        ({"error": "", "message": "second"}, "second"),
        ({"error": "first", "message": "second"}, "first"),
        ([{"message": "listed"}], "listed"),
        (["plain"], "plain"),
        ("plain", "plain"),
        ({"error": "two\nlines\t\x1b[31m"}, "two lines [31m"),
    ],
)
def test_the_services_own_words_are_quoted(reply: Any, said: str) -> None:
    assert str(refuse(LIGHTCONE, json_reply(reply, 400))).endswith(f"Lightcone answered 400 ({said!r}).")


@pytest.mark.parametrize(
    "reply",
    [{}, [], None, 5, True, {"error": 5}, {"error": {"error": {"message": "a"}}}, {"error": " \n"}, [[]]],
)
def test_an_error_response_without_a_message_is_shown_by_its_beginning(reply: Any) -> None:
    text = shorten(json.dumps(reply))
    assert str(refuse(LIGHTCONE, json_reply(reply, 400))).endswith(
        f"(application/json starting with {text!r})."
    )


@pytest.mark.parametrize("status", [502, 503, 520])
def test_a_proxys_page_is_our_error_and_named_as_what_it_is(status: int) -> None:
    page = b"<html>\r\n<head><title>Bad Gateway</title></head>\r\n" + b"<!-- padding -->" * 1_000
    error = refuse(SHINZO, Response(status, {"content-type": "text/html; charset=utf-8"}, page))
    assert type(error) is AgentTaskUnavailableError
    assert str(error) == (
        f"Could not get agent task 'task_01' of 'agt_01': Shinzo answered {status} (text/html starting with "
        "'<html> <head><title>Bad Gateway</title></head> <!-- padding --><!-- padding -->…')."
    )


# --- a 2xx that cannot be read -------------------------------------------------------------------------

UNREADABLE = {
    "a page": (b"<html>Please log in</html>", "a body starting with '<html>Please log in</html>'"),
    "nothing": (b"", "an empty body"),
    "blanks": (b" \r\n", "an empty body"),
    "cut off": (b'{"status": "runn', 'a body starting with \'{"status": "runn\''),
    "text": (b"OK", "a body starting with 'OK'"),
    "a list": (b'[{"status": "running"}]', 'a body starting with \'[{"status": "running"}]\''),
    "a string": (b'"running"', "a body starting with '\"running\"'"),
    "a number": (b"5", "a body starting with '5'"),
    "null": (b"null", "a body starting with 'null'"),
    "NaN": (b"NaN", "a body starting with 'NaN'"),
    "bytes": (b"\xff\xfe\x00\x01", "a body starting with '\ufffd\ufffd'"),
    "a raw zero": (b'{"status": "a\0b"}', 'a body starting with \'{"status": "a b"}\''),
    "nested": (
        b'{"status": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        'a body starting with \'{"status": [[[',
    ),
    "nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 'a body starting with \'{"a":{"a":'),
}


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("what", UNREADABLE)
def test_a_success_that_cannot_be_read_is_our_error(service: str, kind: str, what: str) -> None:
    dialect = DIALECTS[service]
    body, description = UNREADABLE[what]
    request = BUILDERS[kind](dialect)
    error = refuse(dialect, Response(200, {}, body), request)
    assert type(error) is (AgentTaskUncertainError if kind in WITH_EFFECT else AgentTaskReplyError)
    assert (error.is_transient, error.is_final) == (kind not in WITH_EFFECT, kind in WITH_EFFECT)
    assert error.status == 200
    begin = f"Could not {request.purpose}: {dialect.title} answered 200 without the expected JSON object ("
    assert str(error).startswith(begin + description)


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("what", UNREADABLE)
def test_a_start_that_cannot_be_read_may_have_started_something(service: str, what: str) -> None:
    with pytest.raises(AgentTaskUncertainError, match="may have been carried out"):
        parse_started(DIALECTS[service], Response(200, {}, UNREADABLE[what][0]))


# --- error texts ---------------------------------------------------------------------------------------

HOSTILE_TEXT = "\x00\x1b[31m\r\n\x85\u2028\u202e\udc80evil" * 50_000


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 429, 500])
@pytest.mark.parametrize(
    "body",
    [
        HOSTILE_TEXT.encode("utf-8", "surrogatepass"),
        json.dumps({"error": HOSTILE_TEXT}).encode(),
        json.dumps({"a": HOSTILE_TEXT}).encode(),
    ],
    ids=["text", "an error", "no status"],
)
def test_error_texts_are_bounded_lines_without_control_characters(status: int, body: bytes) -> None:
    headers = {"content-type": HOSTILE_TEXT}
    for request in (build_status(LIGHTCONE), build_start(LIGHTCONE)):
        with pytest.raises(AgentTaskRequestError) as caught:
            LIGHTCONE.parse_started(request, Response(status, headers, body), agent_id=None, now=NOW)
        assert len(str(caught.value)) < 700
        assert str(caught.value).isprintable()


def test_an_agents_name_cannot_make_an_error_long() -> None:
    request = LIGHTCONE.build_status(TASK_ID, "a" * 100_000)
    assert len(str(refuse(LIGHTCONE, Response(404), request))) < 400


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        ("", 5, ""),
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
        (" a\n\n\tb ", 5, "a b"),
        ("\n" * 10 + "hidden", 5, "…"),
        ("a\u202eb\u2066c", 10, "a b c"),
        ("a\udc80b", 10, "a b"),
        ("größe 🙂", 10, "größe 🙂"),
    ],
)
def test_foreign_text_is_shortened_to_one_line(text: str, limit: int, line: str) -> None:
    assert shorten(text, limit) == line


@pytest.mark.parametrize("dialect", [LIGHTCONE, SHINZO], ids=lambda dialect: dialect.service)
@pytest.mark.parametrize("status", [200, 202, 400, 409, 401, 404, 500, 503])
def test_a_stop_is_accepted_or_came_too_late_or_failed(dialect: Any, status: int) -> None:
    request = dialect.build_action(dialect.stop_capability, "tsk_1", "agt_1")
    if status in (200, 202):
        assert dialect.check_stop(request, Response(status), now=0.0) is None
    elif status in (400, 409):
        refusal = dialect.check_stop(request, Response(status), now=0.0)
        assert refusal
        assert refusal.status == status
    else:
        with pytest.raises(AgentTaskRequestError):
            dialect.check_stop(request, Response(status), now=0.0)


def test_the_end_of_a_callbacks_url_is_not_quoted() -> None:
    # It may be the token of a callback to Airflow.
    url = "https://airflow.example.com/agent-tasks/callback/token-1"
    request = build_start(SHINZO, callback_mode="webhook", webhook_url=url)
    response = json_reply({"error": f"{url} cannot be called"}, 400)
    with pytest.raises(AgentTaskRejectedError) as caught:
        SHINZO.parse_started(request, response, agent_id=AGENT_ID, now=NOW)
    assert "https://airflow.example.com/agent-tasks/callback/*** cannot be called" in str(caught.value)
    assert "token-1" not in str(caught.value)
