"""The requests that fuzz the routes: generated from a seed, each as the bytes to send."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from airflow_agent_tasks.airflow_compat import worker_request_signature
from airflow_agent_tasks.airflow_compat.required_action import PATH

HEALTH = "/agent-tasks/health"
#: Paths of the plugin, including some that do not exist.
PLUGIN_PATHS = (
    *(PATH, HEALTH, f"{PATH}/", f"{HEALTH}/", "/agent-tasks/", "/agent-tasks/no", "/agent-tasks//health"),
    *(
        "/agent-tasks/%00",
        "/agent-tasks/..%2fhealth",
        "/agent-tasks/health%0d%0aX: y",
        "/agent-tasks/" + "x" * 5000,
    ),
)
METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONSENSE")
CONTENT_TYPES = (
    "application/json",
    "text/plain",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "",
)
ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        10**400,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "\0",
        "x\0y",
        "\ud800",
        "\udfff",
    ),
    *("x" * 70_000, [], {}, [None], [[[]]], {"": None}, {"id": 1}, "show", "close", "{}", "\u202e", "🦜"),
    *(
        "00000000-0000-0000-0000-00000000000g",
        "{01a22507-84bd-77a9-ae15-06fb43907a2f}",
        "urn:uuid:1",
        [{"id": "7"}],
    ),
)
ABSURD_TIMES = (0, 1, 2**31, 2**40, 10**12, 2**63, 2**64 - 1)


@dataclass(frozen=True)
class Place:
    """
    An Airflow task that requests name; it may or may not exist.

    :param instance_id: The id of its task instance.
    :param answer_path: The path for an answer to it.
    """

    instance_id: str
    answer_path: str


@dataclass(frozen=True)
class Probe:
    """
    One request.

    :param kind: Its row in the table.
    :param data: The bytes to send.
    :param group: Requests of the same group must get the same response; empty for none.
    :param hangs_up: True to close the connection right after sending.
    """

    kind: str
    data: bytes
    group: str = ""
    hangs_up: bool = False


class Generator:
    """
    Generates requests.

    :param seed: The same seed generates the same requests, except for keys and ids.
    :param key: The key that workers sign with.
    :param user: The token of a user.
    :param existing: Tasks that exist.
    :param missing: Tasks that do not.
    """

    def __init__(self, seed: int, key: str, user: str, existing: list[Place], missing: list[Place]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._key = key
        self._user = user
        self._existing = existing
        self._places = [*existing, *missing]

    def generate(self, count: int) -> Iterator[Probe]:
        """Yield requests: the same number of each kind."""
        kinds: tuple[Callable[[], Probe], ...] = (
            *(
                self._order_of_stranger,
                self._order_of_stranger,
                self._answer_of_stranger,
                self._malformed_order,
            ),
            *(self._malformed_order, self._absurd_time, self._elsewhere, self._answer_of_user, self._hang_up),
            *(self._websocket, self._oversize),
        )
        for number in range(count):
            yield kinds[number % len(kinds)]()

    def _order_of_stranger(self) -> Probe:
        path = self._random.choice((PATH, HEALTH))
        body = self._random.choice((json.dumps(self._order()), "", "{", "[" * 9_000, "null", "\0"))
        return Probe(
            "orders of strangers", self._build("POST", path, body, self._bad_token()), f"POST {path}"
        )

    def _answer_of_stranger(self) -> Probe:
        place = self._random.choice(self._places)
        number = self._random.randrange(4)
        headers = ("", "Authorization: Bearer x", "Cookie: _token=x", "Authorization: Basic YTpi")[number]
        fields = self._random.choice(({}, {"reply": "Yes."}, {"reply": ""}))
        body = json.dumps({"chosen_options": ["Send"], "params_input": fields})
        data = build_request("PATCH", place.answer_path, body, headers)
        return Probe("answers of strangers", data, f"answer {number}")

    def _malformed_order(self) -> Probe:
        order = self._order()
        for _ in range(self._random.randrange(1, 3)):
            name = self._random.choice((*order, "more"))
            if self._random.random() < 0.2:
                order.pop(name, None)
            else:
                order[name] = self._odd_value()
        path = self._random.choice((PATH, PATH, HEALTH))
        token = worker_request_signature.sign(self._key, order)
        kind = self._random.choice(CONTENT_TYPES)
        return Probe("signed orders, malformed", self._build("POST", path, json.dumps(order), token, kind))

    def _absurd_time(self) -> Probe:
        order, seconds = self._order(), self._random.choice(ABSURD_TIMES)
        key = self._random.choice((self._key, "another key"))
        token = sign_at(seconds, key, order)
        path = self._random.choice((PATH, HEALTH))
        data = self._build("POST", path, json.dumps(order), token)
        return Probe("signed at absurd times", data, f"POST {path}")

    def _elsewhere(self) -> Probe:
        method, path = self._random.choice(METHODS), self._random.choice(PLUGIN_PATHS)
        token = self._random.choice((self._bad_token(), worker_request_signature.sign(self._key, {})))
        return Probe("other methods and paths", self._build(method, path, "{}", token), f"{method} {path}")

    def _answer_of_user(self) -> Probe:
        place = self._random.choice(self._places)
        body = self._random.choice(
            (
                {
                    "chosen_options": ["Send"],
                    "params_input": {"reply": self._random.choice(("", None, " ", 5, []))},
                },
                {"chosen_options": ["Send"], "params_input": {"reply": "Yes.", "question_id": "0-x"}},
                {
                    "chosen_options": self._random.choice(
                        ([], ["No"], "Send", [["Send"]], ["Send", "Send"], None)
                    )
                },
                {"chosen_options": ["Send"], "params_input": self._random.choice((None, [], 5, "x"))},
            )
        )
        headers = f"Authorization: Bearer {self._user}"
        return Probe(
            "answers of users, refused", build_request("PATCH", place.answer_path, json.dumps(body), headers)
        )

    def _hang_up(self) -> Probe:
        order = self._order()
        token = self._random.choice((self._bad_token(), worker_request_signature.sign(self._key, order)))
        data = self._build("POST", self._random.choice((PATH, HEALTH)), json.dumps(order), token)
        if self._random.random() < 0.3:
            body = json.dumps({"chosen_options": ["Send"], "params_input": {"reply": ""}})
            path = self._random.choice(self._places).answer_path
            data = build_request("PATCH", path, body, f"Authorization: Bearer {self._user}")
        return Probe("hang-ups", data[: self._random.randrange(1, len(data))], hangs_up=True)

    def _websocket(self) -> Probe:
        lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        key = f"Sec-WebSocket-Key: {'x' * 22}=="
        path = self._random.choice(PLUGIN_PATHS)
        data = "\r\n".join(
            (f"GET {path.replace(' ', '%20')} HTTP/1.1", "Host: x", *lines, key, "", "")
        ).encode()
        return Probe("websockets", data)

    def _oversize(self) -> Probe:
        order = {**self._order(), "more": "x" * 200_000}
        path = self._random.choice((PATH, HEALTH))
        token = worker_request_signature.sign(self._key, order)
        return Probe("oversize", self._build("POST", path, json.dumps(order), token), f"POST {path}")

    def _order(self) -> dict[str, Any]:
        address = {"task_instance_id": self._random.choice(self._places).instance_id}
        show = {"question_id": "1-x", "subject": "Question 1", "body": "Which?", "reopen": False}
        fields: dict[str, Any] = {
            "params": {"reply": {"value": None}},
            "options": ["Send"],
            "assigned_users": [],
        }
        orders: tuple[dict[str, Any], ...] = (
            {"do": "show", **address, **show, **fields},
            {"do": "read", **address, "form_id": address["task_instance_id"]},
            {"do": "close", **address},
            {"do": "report health"},
        )
        return self._random.choice(orders)

    def _odd_value(self) -> Any:
        if self._random.random() < 0.1:
            deep: Any = []
            for _ in range(self._random.choice((50, 300, 900))):
                deep = [deep] if self._random.random() < 0.5 else {"x": deep}
            return deep
        value = self._random.choice(ODD_VALUES)
        return {"reply": {"value": value}} if self._random.random() < 0.2 else value

    def _bad_token(self) -> str:
        order = self._order()
        good = worker_request_signature.sign(self._key, {"do": "another order"})
        return self._random.choice(
            (
                *("", "x", "." * 50, "\xff" * 20, "x" * 30_000, f"{good}x", good[:-1], good.swapcase()),
                worker_request_signature.sign("another key", order),
                sign_at(self._random.choice(ABSURD_TIMES), "another key", order),
            )
        )

    def _build(self, method: str, path: str, body: str, token: str, kind: str = "application/json") -> bytes:
        return build_request(method, path, body, f"Authorization: Bearer {token}", kind)


def sign_at(seconds: int, key: str, order: dict[str, Any]) -> str:
    """Return a token that was signed at another time."""

    class At(TimestampSigner):
        def get_timestamp(self) -> int:
            return seconds

    class Signer(URLSafeTimedSerializer):
        default_signer = At

    salt, digest = worker_request_signature._SALT, worker_request_signature._digest(order)
    return str(Signer(key, salt=salt).dumps(digest))


def build_request(
    method: str, path: str, body: str, header: str = "", kind: str = "application/json"
) -> bytes:
    """Return the bytes of a request."""
    data = body.encode("utf-8", "surrogatepass")
    lines = (
        *(f"{method} {quote(path, safe='/%')} HTTP/1.1", "Host: x", "Connection: close"),
        *([header] if header else []),
        *([f"Content-Type: {kind}"] if kind else []),
        *(f"Content-Length: {len(data)}", "", ""),
    )
    return "\r\n".join(lines).encode("latin-1") + data
