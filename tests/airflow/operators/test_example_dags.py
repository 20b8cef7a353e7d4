"""Every example DAG is parsed as Airflow parses it, and run against the sandbox."""

from __future__ import annotations

import email
import email.policy
import re
import shutil
import socketserver
import sqlite3
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from lab.cluster.airflow_api import AirflowApi
from tests.airflow.conftest import FinishedRun, Person, run_file

EXAMPLES = Path(__file__).parents[3] / "example_dags"
PATHS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def run_example(airflow_home: Path, agent_task_sandbox: Any) -> Callable[..., FinishedRun]:
    """Return a function that runs one example from a copy in the DAGs folder, with quick agents."""
    shutil.copytree(EXAMPLES, airflow_home / "dags", dirs_exist_ok=True)

    def run(name: str, **replaced: str) -> FinishedRun:
        source, called, _ = (EXAMPLES / f"{name}.py").read_text().rpartition(f"\n{name}()\n")
        assert called
        quick = re.sub(r'"step_seconds": [0-9.]+', '"step_seconds": 0.05', source)
        for text, other in replaced.items():
            assert text in quick
            quick = quick.replace(text, other)
        quick = re.sub(r"retry_delay\": timedelta\(.*?\)", 'retry_delay": timedelta(0)', quick)
        return run_file(airflow_home / "dags" / f"{name}.py", f"{quick}\nexample = {name}()\n", "example")

    return run


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_example_is_parsed_without_an_error(airflow_home: Path, path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(path)
    assert not bag.import_errors
    assert list(bag.dags) == [path.stem]


@pytest.fixture
def api_of_examples(api_server: str) -> AirflowApi:
    """The API of an Airflow that has parsed the examples."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(EXAMPLES, bundle_name="dags-folder"), "dags-folder", None)
    return AirflowApi(api_server)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_airflow_ui_gets_what_an_example_is_about(api_of_examples: AirflowApi, path: Path) -> None:
    dag = api_of_examples.request("GET", f"/dags/{path.stem}/details")

    source = path.read_text()
    assert dag["doc_md"] == source.split('"""')[1].strip()
    tags = {tag["name"] for tag in dag["tags"]}
    assert tags >= {"agent-tasks", "example"}
    # The services are those whose connection the text asks for.
    services = {"lightcone", "shinzo"}
    assert tags & services == {service for service in services if f"`{service}_default`" in dag["doc_md"]}
    assert ("**Without a key:**" in dag["doc_md"]) == bool(tags & services)
    tokens = MarkdownIt().parse(dag["doc_md"])
    assert not [token for token in tokens if token.type == "code_block"], "an indented block"
    # One without a language is shown in the line, in the Airflow UI.
    assert all(token.info for token in tokens if token.type == "fence")


@pytest.mark.parametrize(
    ("task", "doc_md"),
    [
        ("price_watch/tasks/check_answer", "fail unless the answer is a list of prices"),
        ("nightly_run/tasks/check_prices", "Skipped if the agent ends with exit code 99"),
        ("supplier_check/tasks/check_supplier", "answer the agent under **Required Actions**"),
    ],
)
def test_the_airflow_ui_gets_what_a_task_is_about(
    api_of_examples: AirflowApi, task: str, doc_md: str
) -> None:
    assert doc_md in api_of_examples.request("GET", f"/dags/{task}")["doc_md"]


def test_company_research_loads_one_answer_for_each_company(
    run_example: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COMPANY_RESEARCH_DB", str(tmp_path / "answers.db"))
    run = run_example("company_research")
    assert run.state == "success"
    with sqlite3.connect(tmp_path / "answers.db") as database:
        rows = database.execute("SELECT company, industry FROM answers ORDER BY company").fetchall()
    assert rows == [
        ("Adventure Works", "software"),
        ("Contoso", "software"),
        ("Fabrikam", "software"),
        ("Northwind Traders", "software"),
    ]


def test_code_review_blocks_the_merge_when_the_agent_found_an_error(run_example: Any) -> None:
    run = run_example("code_review")
    assert run.state == "success"
    assert run.xcom("block_merge") == ["src/login.js:17 Password is logged"]
    assert run.task_state("approve_merge") == "skipped"


def test_nightly_run_retries_skips_and_alerts_by_exit_code(run_example: Any) -> None:
    run = run_example("nightly_run")
    assert run.task_state("export_report") == "success"
    assert run.tries("export_report") == 2
    assert run.task_state("check_prices") == "skipped"
    assert run.task_state("renew_listing") == "failed"
    assert run.tries("renew_listing") == 1
    assert run.xcom("alert") == {"renew_listing": 2}
    assert run.state == "failed"


def test_a_quiet_nightly_run_sends_no_alert_and_succeeds(run_example: Any) -> None:
    run = run_example("nightly_run", **{"LOGIN_REFUSED = 2": "LOGIN_REFUSED = 0"})
    assert run.task_state("alert") == "skipped"
    assert run.task_state("fail_run") == "skipped"
    assert run.state == "success"


def test_submit_and_go_looks_after_running_agent_tasks(run_example: Any, agent_task_sandbox: Any) -> None:
    run = run_example("submit_and_go")
    assert run.state == "success"
    left = {(task["service"], task["status"]): task for task in agent_task_sandbox.tasks()}
    assert set(left) == {("lightcone", "completed"), ("shinzo", "completed"), ("shinzo", "cancelled")}
    messages = left["lightcone", "completed"]["messages"]
    assert [message["message"] for message in messages] == ["Saturday is fine."]


def test_release_notes_hands_results_from_function_to_agent_to_function(
    run_example: Any, agent_task_sandbox: Any
) -> None:
    run = run_example("release_notes")
    assert run.state == "success"
    written, published = agent_task_sandbox.tasks()
    assert published["request"]["instruction"].endswith(
        "Publish this on our blog: Faster, and no lost umlauts."
    )
    assert published["request"]["metadata"] == {"source": written["task_id"]}
    assert run.xcom("report") == f"{published['task_id']} ended with exit code 0"


def test_supplier_check_asks_a_person_twice_and_reports_who_decided(
    run_example: Any, api_server: str, agent_task_sandbox: Any
) -> None:
    with Person(api_server, "supplier_check", ["The one in Hamburg.", "Yes."]):
        run = run_example("supplier_check")
    assert run.state == "success"
    (agent_task,) = agent_task_sandbox.tasks()
    assert [message["message"] for message in agent_task["messages"]] == ["The one in Hamburg.", "Yes."]
    assert run.xcom("file_report") == [
        "Contoso GmbH, Hamburg: risk low",
        "There are two: Contoso Ltd. in London, and Contoso GmbH in Hamburg. Which one is meant? "
        "Anonymous: The one in Hamburg.",
        "Its accounts are in the paid register only. May I spend 12 EUR there? Anonymous: Yes.",
    ]


def test_office_order_asks_a_person_only_what_its_rule_leaves_open(
    run_example: Any, api_server: str, agent_task_sandbox: Any
) -> None:
    with Person(api_server, "office_order", ["No, repair the old one."]) as person:
        run = run_example("office_order")
    assert run.state == "success"
    assert [form["subject"] for form in person.forms] == ["Question 2: May I order a desk chair for 420 EUR?"]
    (agent_task,) = agent_task_sandbox.tasks()
    assert [message["message"] for message in agent_task["messages"]] == [
        "Yes, order it.",
        "No, repair the old one.",
    ]
    assert run.xcom("note_expenses") == {
        "May I order paper for 24 EUR?": "answer_routine",
        "May I order a desk chair for 420 EUR?": "Anonymous",
    }


def test_shop_tour_is_shown_live_and_keeps_its_screenshots(
    run_example: Any, agent_task_sandbox: Any, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.setenv("SHOP_TOUR_FOLDER", str(tmp_path))
    run = run_example("shop_tour")
    assert run.state == "success"
    (agent_task,) = agent_task_sandbox.tasks()
    folder = tmp_path / "lightcone_default" / agent_task["task_id"]
    stored = {path.name: path.stat().st_size for path in folder.glob("*.png")}
    assert len(stored) == 4
    assert run.xcom("report") == {
        "found": {"cents": 189, "in_basket": True},
        "screenshots": stored,
        "cost": 0.12,
    }
    log = capfd.readouterr().out
    for line in ('Tool: click(text="Add to basket")', "Agent: It costs 1.89 EUR.", "Screenshot 4"):
        assert line in log


def test_shop_tour_that_passes_its_budget_is_stopped(
    run_example: Any, agent_task_sandbox: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SHOP_TOUR_FOLDER", str(tmp_path))
    # More steps than a busy machine could miss before it stops the agent.
    endless = {'"steps": 5': '"steps": 5000', "max_steps=40": "max_steps=5000"}
    run = run_example("shop_tour", **endless, **{'"cost": 0.12': '"cost": 5000.0'})
    assert run.task_state("tour") == "failed"
    assert run.tries("tour") == 1
    assert re.search(r"passed its budget: .*cost \d+ of 1\.", run.xcom("tour", "error"))
    (agent_task,) = agent_task_sandbox.tasks()
    assert agent_task["status"] == "paused"


def test_press_review_sends_the_prompt_of_its_file(run_example: Any, agent_task_sandbox: Any) -> None:
    agent_task_sandbox.script(match="the press wrote about Contoso", step_seconds=0)
    run = run_example("press_review")
    assert run.state == "success"
    (agent_task,) = agent_task_sandbox.tasks()
    message = agent_task["request"]["message"]
    assert message.startswith("Read what the press wrote about Contoso on ")
    assert message.endswith("Write short sentences. Name sources. Never guess.")
    assert "{" not in message


def test_a_prompt_whose_file_is_missing_starts_no_agent(
    run_example: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    missing = {'prompts/press_review.md" %}': 'prompts/nowhere.md" %}', "retries=1": "retries=0"}
    run = run_example("press_review", **missing)
    assert run.state == "failed"
    assert "prompts/nowhere.md" in capfd.readouterr().out
    assert agent_task_sandbox.requests() == []


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """The database of price_watch."""
    database = tmp_path / "prices.db"
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_PRICE_WATCH_DB", f'{{"conn_type": "sqlite", "host": "{database}"}}')
        with sqlite3.connect(database) as connection:
            yield connection
        connection.close()


def test_price_watch_stores_each_price_once_a_day(run_example: Any, prices: sqlite3.Connection) -> None:
    assert run_example("price_watch").state == "success"
    assert run_example("price_watch", **{'"cents": 189': '"cents": 199'}).state == "success"
    rows = prices.execute("SELECT product, cents FROM prices ORDER BY product").fetchall()
    assert rows == [("Bread", 340), ("Oat milk", 199)]


@pytest.mark.parametrize("product", ["'); DROP TABLE prices; --", "{{ 6 * 7 }}", "{% raw %}", ":cents"])
def test_price_watch_stores_hostile_words_as_they_are(
    run_example: Any, agent_task_sandbox: Any, prices: sqlite3.Connection, product: str
) -> None:
    answer = {"prices": [{"product": product, "cents": 1}]}
    agent_task_sandbox.script(match="Read the prices", steps=1, step_seconds=0, result=answer)
    assert run_example("price_watch", **{'f"{SANDBOX_SCRIPT}\\n"': '""'}).state == "success"
    assert prices.execute("SELECT product, cents FROM prices").fetchall() == [(product, 1)]


@pytest.mark.parametrize("price", ['"189"', "1.89", "true", "-1"])
def test_price_watch_stores_nothing_that_is_no_price(
    run_example: Any, prices: sqlite3.Connection, price: str
) -> None:
    price = {"true": "True"}.get(price, price)
    run = run_example("price_watch", **{'"cents": 340': f'"cents": {price}'})
    assert run.task_state("check_answer") == "failed"
    assert prices.execute("SELECT * FROM prices").fetchall() == []


class MailServer(socketserver.ThreadingTCPServer):
    """A mail server on a free port that keeps what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MailSession)
        self.mails: list[EmailMessage] = []


class _MailSession(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say("220 ready")
        while command := self.rfile.readline().strip().upper():
            if command == b"DATA":
                self._say("354 go on")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(
                    email.message_from_bytes(b"".join(lines), EmailMessage, policy=email.policy.default)
                )
            self._say("221 bye" if command == b"QUIT" else "250 ok")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EmailMessage]]:
    """What was sent to the mail server of the connection smtp_default."""
    with MailServer() as server, monkeypatch.context() as patch:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        host, port = server.server_address[:2]
        extra = '{"disable_ssl": true, "disable_tls": true}'
        connection = f'{{"conn_type": "smtp", "host": "{host}", "port": {port}, "extra": {extra}}}'
        patch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", connection)
        yield server.mails
        server.shutdown()
        thread.join()


def test_travel_booking_mails_the_question_as_text(
    run_example: Any, api_server: str, agent_task_sandbox: Any, mails: list[EmailMessage]
) -> None:
    with Person(api_server, "travel_booking", ["The one at 9:02."]) as person:
        run = run_example("travel_booking")
    assert run.state == "success"
    question = "Is the train at 7:02 <early> fine, or the one at 9:02?"
    assert run.xcom("confirm") == [f"{question} The one at 9:02."]
    (mail,) = mails
    assert mail["Subject"] == "An agent has a question: travel_booking, book"
    assert mail["To"] == "travel@example.com"
    (body,) = [part for part in mail.walk() if part.get_content_type() == "text/html"]
    html = body.get_content()
    assert ">Is the train at 7:02 &lt;early&gt; fine, or the one at 9:02?</p>" in html
    (form,) = person.forms
    path = f"{api_server}/dags/travel_booking/runs/{form['task_instance']['dag_run_id']}/tasks/book"
    assert path in html.replace("%3A", ":").replace("%2B", "+")


def test_travel_booking_asks_although_the_mail_cannot_be_sent(run_example: Any, api_server: str) -> None:
    with Person(api_server, "travel_booking", ["Yes."]):
        run = run_example("travel_booking")
    assert run.state == "success"
    assert len(run.xcom("confirm")) == 1


def test_checkout_check_reports_successes_and_failures_by_map_index(run_example: Any) -> None:
    run = run_example("checkout_check")
    assert run.state == "success"
    assert [run.task_state("check", index) for index in range(3)] == ["success", "failed", "success"]
    books, shoes, tea = run.xcom("report")
    assert (books["shop"], books["state"], books["exit_code"]) == ("https://books.example", "success", 0)
    assert (tea["shop"], tea["state"], tea["exit_code"]) == ("https://tea.example", "success", 0)
    for index, line in ((0, books), (2, tea)):
        assert line["agent_task"]["task_id"] == run.xcom("check", "task_id", index)
        assert line["agent_task"]["status"] == "completed"
        assert line["error"] is None
    assert (shoes["shop"], shoes["state"], shoes["exit_code"]) == ("https://shoes.example", "failed", 3)
    assert shoes["agent_task"] is None
    assert "exit code 3" in shoes["error"]


def test_checkout_check_fails_if_no_checkout_works(run_example: Any) -> None:
    run = run_example("checkout_check", **{"else 0": "else 4"})
    assert run.task_state("report") == "failed"
    assert run.state == "failed"


def test_trend_report_emits_an_asset_event_that_leads_to_the_report(
    run_example: Any, api_server: str, agent_task_sandbox: Any
) -> None:
    run = run_example("trend_report")
    assert run.state == "success"
    (agent_task,) = agent_task_sandbox.tasks()
    parameters = {"source_dag_id": "trend_report", "source_run_id": run.dag_run.run_id}
    events = AirflowApi(api_server).request("GET", "/assets/events", parameters=parameters)
    (event,) = events["asset_events"]
    assert event["name"] == "bike_trends"
    assert event["source_task_id"] == "research"
    assert event["extra"] == {"topic": "city bikes", "agent_task_id": agent_task["task_id"]}


def test_trend_report_that_fails_emits_no_event(run_example: Any, api_server: str) -> None:
    failing = {'"steps": 3,': '"steps": 1, "status": "failed",', "retries=1": "retries=0"}
    run = run_example("trend_report", **failing)
    assert run.state == "failed"
    parameters = {"source_dag_id": "trend_report", "source_run_id": run.dag_run.run_id}
    events = AirflowApi(api_server).request("GET", "/assets/events", parameters=parameters)
    assert events["asset_events"] == []


def test_trend_newsletter_triggered_by_hand_is_skipped(run_example: Any) -> None:
    assert run_example("trend_newsletter").task_state("write_newsletter") == "skipped"
