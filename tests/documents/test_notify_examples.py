"""What the notifiers of the how-to send over real sockets: an agent's words, and no markup made of them."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_agent_tasks.worker.notifiers import notify
from tests.documents.code_blocks import ROOT, list_code_blocks
from tests.raw_server import RawServer

LOG = logging.getLogger(__name__)
LOG_URL = "http://airflow.example/dags/d?a=1&b=2"
HOSTILE = [
    "Which one?",
    "<!channel> see <https://evil.example|Airflow> *now* & then",
    '</pre><a href="https://evil.example">Open the task</a><img src=x onerror=alert(1)>',
    "{{ ti.log_url }} {{ 7 * 7 }} {% raw %}",
    "a line\r\nBcc: everyone@evil.example\r\n\r\n.\r\nQUIT \"quoted\" 'too'",
    '}}, {"type": "image", "image_url": "https://evil.example"}',
]


@pytest.fixture(scope="module")
def notifiers() -> dict[str, Any]:
    """The objects that the page's blocks make."""
    pytest.importorskip("airflow.providers.slack", reason="the Slack provider needs Python 3.11")
    made: dict[str, Any] = {}
    for block in list_code_blocks(ROOT / "docs" / "how-to" / "notify.md"):
        if (
            block.language == "python"
            and "import pytest" not in block.source
            and "def test_" not in block.source
        ):
            exec(compile(block.source, "notify.md", "exec"), made)  # noqa: S102
    return made


def build_context(**others: Any) -> Any:
    task = SimpleNamespace(task_id="check", log_url=LOG_URL, **others)
    return {"ti": task, "dag": DAG("supplier")}


@pytest.mark.parametrize("question", HOSTILE)
def test_slack_gets_the_question_as_plain_text_and_no_other_word_of_it(
    question: str,
    notifiers: dict[str, Any],
    serve: Callable[..., RawServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
    url = f"{server.url}/services/T0/B0/key"
    monkeypatch.setenv(
        "AIRFLOW_CONN_SLACK_DEFAULT", json.dumps({"conn_type": "slackwebhook", "password": url})
    )
    notify([notifiers["ask_in_slack"]], build_context(), question, LOG)
    (request,) = server.requests
    sent = request.json
    headline = f"*check* needs an answer: <{LOG_URL}|open the task>"
    asked = {"type": "plain_text", "text": question, "emoji": False}
    assert sent["blocks"] == [
        {"type": "section", "text": {"type": "mrkdwn", "text": headline}},
        {"type": "section", "text": asked},
    ]
    assert sent["text"] == headline
    assert (sent["unfurl_links"], sent["unfurl_media"]) == (False, False)


class Page(HTMLParser):
    """The elements of a mail, and the text within ``pre``."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.preformatted = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements[-1][0] == "pre":
            self.preformatted += data


class MailSink(socketserver.StreamRequestHandler):
    """Accepts mails as an SMTP server does, and keeps them."""

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                # A leading dot is doubled on the wire.
                self.server.mails.append(b"".join(one.removeprefix(b".") for one in lines))  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What arrives at the connection ``smtp_default``."""
    with socketserver.TCPServer(("127.0.0.1", 0), MailSink) as server:
        server.mails = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        extra = {"disable_ssl": True, "disable_tls": True}
        connection = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": server.server_address[1],
            "extra": extra,
        }
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield server.mails  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def read_page(mail: bytes) -> Page:
    message = message_from_bytes(mail, policy=policy.default)
    assert {name for name in message if name.lower() == "bcc"} == set()
    (part,) = [one for one in message.walk() if one.get_content_type() == "text/html"]
    return Page(part.get_content().rstrip("\n"))


@pytest.mark.parametrize("question", HOSTILE)
def test_a_mail_shows_the_question_as_it_was_asked_and_has_one_link(
    question: str, notifiers: dict[str, Any], mails: list[bytes]
) -> None:
    notify([notifiers["ask_by_mail"]], build_context(), question, LOG)
    page = read_page(*mails)
    assert page.elements == [("pre", {}), ("p", {}), ("a", {"href": LOG_URL})]
    assert page.preformatted.splitlines() == question.splitlines()


def test_a_mail_about_a_failure_shows_the_error_as_text(
    notifiers: dict[str, Any], mails: list[bytes]
) -> None:
    error = HOSTILE[2]
    context = build_context(xcom_pull=lambda task_ids, key: error)
    notifiers["failure_by_mail"](context)
    page = read_page(*mails)
    assert page.elements == [("pre", {})]
    assert page.preformatted == error
