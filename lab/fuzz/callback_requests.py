"""The requests that fuzz the receiver of callbacks: every kind of token, path, header and body."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from itsdangerous import URLSafeSerializer

from airflow_agent_tasks.callbacks.settings import PATH
from airflow_agent_tasks.callbacks.token import make_token, read_token
from lab.fuzz.route_requests import METHODS, Probe, build_request

HEADERS = (
    *(
        "",
        "Authorization: Bearer x",
        "Cookie: _token=x",
        "Origin: https://evil.example",
        "Accept-Encoding: gzip",
    ),
    *("X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "Content-Encoding: gzip", "Range: bytes=0-1"),
    *("Forwarded: for=127.0.0.1;host=evil.example", "X-HTTP-Method-Override: GET", "If-None-Match: *"),
)
CONTENT_TYPES = ("application/json", "text/plain; charset=utf-7", "multipart/form-data", "\xff", "")
#: The bodies, by size: the receiver reads 64 KiB, and closes the connection if there is more.
BODIES = {
    "small body": ("", "{}", '{"task_id": "tsk_1", "status": "completed"}', "{", "[" * 9_000, "\0", "a=b"),
    "large body": ("x" * 64 * 1024, " " * 64 * 1024),
    "oversize body": ("x" * (64 * 1024 + 1), "[" * 200_000),
}
#: What no token looks like, as it is sent.
GARBAGE = (
    *(
        "",
        "x",
        ".",
        "..",
        "...",
        "/",
        "//",
        "a/b/c",
        "../health",
        "%2e%2e%2fhealth",
        "%00",
        "%FF%FE",
        "%ED%A0%80",
    ),
    *(
        "%F0%9F%A6%9C",
        "%E2%80%AE",
        "%25",
        "%",
        "x" * 400,
        "x" * 401,
        "." * 3_000,
        "%C3%A9" * 500,
        "x" * 10_000,
    ),
    *(
        "null",
        "0",
        "{}",
        "a?b=c",
        "?",
        ";",
        "=" * 44,
        "eyJhbGciOiJub25lIn0.e30.",
        "-" * 122,
        "e30.e30",
        "x%0D",
    ),
)


class CallGenerator:
    """
    Generates calls of services and of others.

    :param seed: The same seed generates the same calls, except for tokens.
    :param secret: The secret that signs tokens.
    :param tokens: The tokens of real tasks, by kind.
    """

    def __init__(self, seed: int, secret: str, tokens: dict[str, str]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._secrets = [secret]
        self._tokens = tokens
        self._known = [
            token for text in tokens.values() if (token := read_token(self._secrets, text, now=0.0))
        ]
        #: Returns a token of a class.
        self.classes: dict[str, Callable[[], str]] = {
            **{f"of a task: {kind}": self._make_constant(text) for kind, text in tokens.items()},
            "unknown task": lambda: self._sign(task_instance_id=UUID(int=self._random.getrandbits(128))),
            "other submission": lambda: self._sign(submission=f"{self._random.getrandbits(64):016x}"),
            "expired": lambda: self._sign(expires_at=self._random.choice((-1, 0, 1, time.time() - 1))),
            "other secret": lambda: self._sign(secrets=["another secret"]),
            "other salt": self._salt_otherwise,
            "other content": self._put_other_content,
            "changed": self._change,
            "truncated": self._truncate,
            "garbage": lambda: self._random.choice(GARBAGE),
        }

    def generate(self, count: int) -> Iterator[Probe]:
        """Yield calls: the same number of each class of tokens."""
        names = list(self.classes)
        for number in range(count):
            yield self._generate_one(names[number % len(names)])

    def _generate_one(self, name: str) -> Probe:
        path = PATH + self.classes[name]()
        header, kind = self._random.choice(HEADERS), self._random.choice(CONTENT_TYPES)
        size = self._random.choice(("small body",) * 6 + ("large body", "oversize body"))
        body, chance = self._random.choice(BODIES[size]), self._random.random()
        if chance < 0.05:
            data = build_request("POST", path, body, header, kind)
            return Probe(f"hang-ups, {name}", data[: self._random.randrange(1, len(data))], hangs_up=True)
        if chance < 0.06:
            data = build_request("POST", path, "x" * 10)[:-1]
            return Probe(f"unfinished, {name}", data, "unfinished")
        method = self._random.choice(METHODS) if chance < 0.2 else "POST"
        label = name if method == "POST" else f"other methods, {name}"
        return Probe(label, build_request(method, path, body, header, kind), f"{method}, {header}, {size}")

    def _make_constant(self, text: str) -> Callable[[], str]:
        return lambda: text

    def _sign(
        self, *, secrets: Sequence[str] = (), expires_at: float | None = None, **said: UUID | str
    ) -> str:
        token = replace(self._random.choice(self._known), **said)  # type: ignore[arg-type]
        expires_at = time.time() + 3_600 if expires_at is None else expires_at
        return make_token(secrets or self._secrets, token, expires_at=expires_at)

    def _salt_otherwise(self) -> str:
        token = self._random.choice(self._known)
        content = [token.task_instance_id.hex, token.submission, int(time.time()) + 3_600]
        return self._sign_content(content, salt=self._random.choice(("itsdangerous", "", "cookie-session")))

    def _put_other_content(self) -> str:
        # A signature of ours, but nothing that we sign.
        return self._sign_content(self._random.choice((None, [], {}, 5, ["x", "y", 2**40], [[]] * 9)))

    def _sign_content(self, content: object, salt: str = "airflow-agent-tasks.callback") -> str:
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return str(URLSafeSerializer(self._secrets[0], salt=salt, signer_kwargs=options).dumps(content))

    def _change(self) -> str:
        text = list(self._random.choice(list(self._tokens.values())))
        for _ in range(self._random.randrange(1, 4)):
            # The last letter has bits that mean nothing.
            at = self._random.randrange(len(text) - 1)
            text[at] = self._random.choice([letter for letter in "Aa0-_.~" if letter != text[at]])
        return "".join(text)

    def _truncate(self) -> str:
        text = self._random.choice(list(self._tokens.values()))
        at = self._random.randrange(1, len(text))
        return self._random.choice((text[:at], text[at:]))
