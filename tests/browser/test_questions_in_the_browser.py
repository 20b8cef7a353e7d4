"""What a person sees of an agent's questions on Airflow's page, and what comes of the answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from required_actions import RequiredActions
from visitor import Visitor

from lab.cluster.airflow_api import TaskInstance

SHINZO = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("shinzo_asks", schedule=None):
    ShinzoTaskOperator(
        task_id="agent", message="{{ dag_run.conf['script'] }}", deferrable=True, poll_interval=0.5
    )
"""
LIGHTCONE = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

with DAG("lightcone_asks", schedule=None):
    LightconeTaskOperator(
        task_id="agent", instruction="{{ dag_run.conf['script'] }}", deferrable=False, poll_interval=0.5
    )
"""
# Made by the worker: the database of Airflow would keep a megabyte of the run's settings.
HOSTILE = """
import json
from airflow.sdk import DAG, task

with DAG("hostile_asks", schedule=None):

    @task.shinzo(task_id="agent", deferrable=False, poll_interval=0.5)
    def agent(dag_run):
        hostile = dag_run.conf["hostile"]
        together = chr(10).join(hostile)
        script = {"steps": 8, "step_seconds": 0.1, "ask": [*hostile, together + "x" * 1_000_000]}
        return "#sandbox " + json.dumps(script) + chr(10) + together

    agent()
"""
# Lightcone's agent is waited for by the worker, Shinzo's by the trigger.
# A second where the default is five: an answer is delayed until the scheduler has seen the worker's exit.
SETTINGS = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
DAGS = {"shinzo_asks.py": SHINZO, "lightcone_asks.py": LIGHTCONE, "hostile_asks.py": HOSTILE}

QUESTIONS = [
    "Two companies are called Meridian Robotics, one in Lyon and one in Austin.\nWhich of them is meant?",
    "The accounts of 2024 are not audited yet. Shall the figures of 2023 stand in the report?",
    "Is the report to be in English, or in French?",
]
REPLIES = ["The one in Lyon.", "Yes, and say so:\n“not audited”", "<b>English</b>, please & thank you"]

#: Each line does harm in a page that takes some of it for Markdown or HTML; short enough to be shown whole.
ATTACKS = [
    "<script>window.pwned = 1; alert(1)</script>\n"
    '<img src="http://evil.example/a.png" onerror="window.pwned = 2">\n'
    '<iframe srcdoc="<script>parent.pwned = 3</script>"></iframe><svg onload="window.pwned = 4">',
    "[press here](javascript:window.pwned=5) ![picture](http://evil.example/b.png)\n"
    "http://evil.example/c www.evil.example/d <http://evil.example/e> someone@evil.example\n"
    "[reference]: http://evil.example/f",
    "\u202egnp.lairt\u202c \u2066isolated\u2069 zero\u200bwidth \x07\x1b[31m bell \x7f \ufeff\n"
    # What is left of them between these is a fence, once the invisible characters are gone.
    "`\u2060`\u200b`\n![picture](http://evil.example/g.png)\n# Heading",
    "Which?\n~~~\r```\r\n# Heading\x85<b>bold</b>\u2028![picture](http://evil.example/h.png)",
    "Which?\n`````\u2028``````\u2029# Heading\x85<b>bold</b>",
    "Which?\n| a | b |\n|---|---|\n| ![picture](http://evil.example/i.png) | $x^2$ |\n```",
]
HARMFUL = "img, script, iframe, object, embed, svg, table, h1, h2, b"
#: What Airflow 3.4 itself puts there: the subject, and a button to copy a block.
OF_AIRFLOW = "h2.chakra-heading, [data-testid=markdown-copy-button] svg"


def start_agent(cluster: Any, dag_id: str, questions: list[str]) -> TaskInstance:
    script = json.dumps({"steps": 8, "step_seconds": 0.2, "ask": questions})
    return start(cluster, dag_id, {"script": f"#sandbox {script}\nWrite a report on Meridian Robotics."})


def start(cluster: Any, dag_id: str, conf: dict[str, Any]) -> TaskInstance:
    run_id = cluster.api.trigger(dag_id, conf)
    task: TaskInstance
    (task,) = cluster.api.list_tasks(dag_id, run_id)
    return task


def find_remote_task(cluster: Any, sandbox: Any, task: TaskInstance) -> dict[str, Any]:
    task_id = cluster.api.read_xcoms(task, ["task_id"])["task_id"]
    found: dict[str, Any]
    (found,) = [remote for remote in sandbox.tasks() if remote["task_id"] == task_id]
    return found


def list_messages(remote: dict[str, Any]) -> list[str]:
    return [message["message"] for message in remote["messages"]]


@pytest.mark.parametrize("dag_id", ["shinzo_asks", "lightcone_asks"])
def test_three_questions_are_asked_and_answered_on_the_page(
    dag_id: str, cluster: Any, sandbox: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = start_agent(cluster, dag_id, QUESTIONS)
    for number, (question, reply) in enumerate(zip(QUESTIONS, REPLIES, strict=True), start=1):
        required_actions.wait_for_question(task, number)
        required_actions.open_form(task)
        visitor.take_screenshot(f"question-{number}")
        assert required_actions.question.split() == question.split()
        assert required_actions.subject == f"Question {number}: {question.splitlines()[0]}"
        required_actions.write_reply(reply)
        required_actions.choose("Send")

    assert cluster.wait_for_run(dag_id, task.run_id, timeout=120) == "success"
    remote = find_remote_task(cluster, sandbox, task)
    assert list_messages(remote) == REPLIES
    path = re.compile(rf"/{remote['task_id']}/messages?$")
    sent = [request for request in sandbox.requests() if path.search(request["path"])]
    assert [request["body"]["message"] for request in sent] == REPLIES
    assert {request["status"] for request in sent} == {200}
    answers = cluster.api.read_xcoms(task, ["answers"])["answers"]
    assert [(answer["number"], answer["question"], answer["reply"]) for answer in answers] == [
        (number, *texts) for number, texts in enumerate(zip(QUESTIONS, REPLIES, strict=True), start=1)
    ]
    assert {answer["answered_by"]["name"] for answer in answers} == {"Anonymous"}
    assert all(answer["sent"] for answer in answers)
    assert visitor.foreign_urls == []


def test_what_an_agent_says_does_no_harm_on_the_page(
    cluster: Any, sandbox: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = start(cluster, "hostile_asks", {"hostile": ATTACKS})
    required_actions.wait_for_question(task, 1)
    subject = required_actions.open_list(task).inner_text()
    assert subject.startswith("Question 1: <script>window.pwned = 1; alert(1)</script>")
    assert len(subject) < 200
    visitor.take_screenshot("list")
    assert_no_harm(visitor)

    replies = [f"reply {number}" for number in range(1, len(ATTACKS) + 2)]
    for number, (attack, reply) in enumerate(zip([*ATTACKS, ATTACKS[0]], replies, strict=True), start=1):
        required_actions.wait_for_question(task, number)
        form = required_actions.open_form(task)
        visitor.take_screenshot(f"hostile-{number}")
        text = form.inner_text()
        assert len(text) < 10_000
        # They are there, as text.
        for visible in re.findall(r"<script>|<img |\[press here\]\(|# Heading|\| a \| b \|", attack):
            assert visible in text
        assert not set("\u202e\u202c\u2066\u2069\u200b\u2060\x07\x1b\x7f\ufeff") & set(text)
        assert (
            form.locator(HARMFUL).evaluate_all(
                "(found, ours) => found.filter(one => !one.matches(ours)).map(one => one.outerHTML)",
                OF_AIRFLOW,
            )
            == []
        )
        links = form.locator("a").evaluate_all("links => links.map(link => link.href)")
        assert [link for link in links if not link.startswith(f"{visitor.base_url}/")] == []
        assert_no_harm(visitor)
        required_actions.write_reply(reply)
        required_actions.choose("Send")

    assert cluster.wait_for_run("hostile_asks", task.run_id, timeout=120) == "success"
    assert list_messages(find_remote_task(cluster, sandbox, task)) == replies
    assert_no_harm(visitor)


def assert_no_harm(visitor: Visitor) -> None:
    assert visitor.evaluate("window.pwned") is None
    assert visitor.dialogs == []
    assert visitor.foreign_urls == []
    assert visitor.errors == []
    # An invisible or very wide text would push the buttons out of sight.
    assert visitor.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_stop_the_agent_cancels_its_task_and_fails_the_airflow_task(
    cluster: Any, sandbox: Any, required_actions: RequiredActions
) -> None:
    task = start_agent(cluster, "shinzo_asks", ["Shall I buy all of it?"])
    required_actions.wait_for_question(task, 1)
    required_actions.open_form(task)
    required_actions.choose("Stop the agent")

    assert cluster.wait_for_run("shinzo_asks", task.run_id, timeout=120) == "failed"
    remote = find_remote_task(cluster, sandbox, task)
    assert remote["status"] == "cancelled"
    assert list_messages(remote) == []
    (ended,) = cluster.api.list_tasks("shinzo_asks", task.run_id)
    assert (ended.state, ended.tries) == ("failed", 1)
    log = "\n".join(cluster.api.read_log(ended))
    assert "Anonymous (id Anonymous) chose 'Stop the agent'" in log


def test_send_without_a_reply_is_refused_at_once_and_sends_nothing(
    cluster: Any, sandbox: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = start_agent(cluster, "shinzo_asks", ["Red or blue?"])
    required_actions.wait_for_question(task, 1)
    required_actions.open_form(task)
    answer = required_actions.press("Send")
    assert answer.status == 400
    assert "The reply was not sent: it was empty." in answer.text()
    visitor.page.get_by_text("Response failed").first.wait_for()
    visitor.take_screenshot("refused")
    assert list_messages(find_remote_task(cluster, sandbox, task)) == []
    required_actions.write_reply("Blue.")
    required_actions.choose("Send")

    assert cluster.wait_for_run("shinzo_asks", task.run_id, timeout=120) == "success"
    assert list_messages(find_remote_task(cluster, sandbox, task)) == ["Blue."]


def test_a_reply_on_a_page_that_shows_an_earlier_question_is_not_sent_to_the_later_one(
    cluster: Any, sandbox: Any, visitor: Visitor, required_actions: RequiredActions
) -> None:
    task = start_agent(cluster, "shinzo_asks", ["Red or blue?", "Shall I delete the old ones?"])
    required_actions.wait_for_question(task, 1)
    required_actions.open_form(task)
    required_actions.write_reply("Yes, blue.")
    # Somebody else is quicker, and the page goes on showing the first question.
    required_actions.answer_elsewhere(task, "Red.")
    required_actions.wait_for_question(task, 2)
    answer = required_actions.press("Send")
    assert answer.status == 409
    visitor.take_screenshot("refused")
    required_actions.open_form(task)
    required_actions.write_reply("No.")
    required_actions.choose("Send")

    assert cluster.wait_for_run("shinzo_asks", task.run_id, timeout=120) == "success"
    assert list_messages(find_remote_task(cluster, sandbox, task)) == ["Red.", "No."]
