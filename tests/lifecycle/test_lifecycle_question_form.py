"""The form: what of the agent's words stands in it, and what is read of an answer."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.form_layout import LINE_LENGTH, SHORTENED
from airflow_agent_tasks.lifecycle.question_form import (
    ANYONE,
    MAX_LINES,
    OPTIONS,
    SEND,
    STOP,
    Asking,
    names_other_question,
    read_response,
)

LOG_URL = "http://airflow.example/dags/d/runs/manual__(1)/tasks/t"
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "http://evil.example and www.evil.example and a@evil.example",
    "```\n<b>out</b>\n```",
    "`\u2060`\u2060`\n![x](http://evil.example/x.png)",
    "~~~\n# out\n~~~",
    "\r\n```\r\n# out",
    "a\u2028```\u2028# out",
    "    ```\n# out",
    "`" * 500 + "\n# out",
    "x" * 1_000_000,
    "word " * 200_000,
    "\n" * 100_000,
    "\x00\x1b[31m\u202egnp.exe\u2066\ufeff\ud800",
]


ASKED_AT = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()


def ask(question: str | None, *, instruction: str = "Find the company.", **fields: Any) -> Asking:
    of_form = {name: fields.pop(name) for name in Asking.__dataclass_fields__ if name in fields}
    task = AgentTask("shinzo", "tsk_1", TaskState.AWAITING_INPUT, question=question, **fields)
    return Asking(2, "2-abc", task, "Shinzo", instruction, LOG_URL, asked_at=ASKED_AT, **of_form)


def read_blocks(body: str) -> list[list[str]]:
    """Return the lines of each fenced block of a body without backticks in it."""
    return [
        block.split("\n") for block in re.findall(r"^```text\n(.*?)\n```$", body, re.DOTALL | re.MULTILINE)
    ]


def read_facts(form: Any) -> dict[str, str]:
    """Return what the last block tells, by name."""
    facts: dict[str, str] = {}
    name = ""
    for line in read_blocks(form.body)[-1]:
        name = line[:16].strip() or name
        facts[name] = f"{facts.get(name, '')} {line[16:]}".strip()
    return facts


def outside_of_fences(body: str) -> str:
    """Return what a Markdown reader takes for markup: CommonMark's rule for the end of a fenced block."""
    kept, fence = [], ""
    for line in body.split("\n"):
        if not fence and (opening := re.match(r" {0,3}(`{3,})", line)):
            fence = opening[1]
        elif fence and (closing := re.fullmatch(r" {0,3}(`{3,})\s*", line)) and len(closing[1]) >= len(fence):
            fence = ""
        elif not fence:
            kept.append(line)
    assert not fence, "a fenced block is left open"
    return "\n".join(kept)


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form_of", [Asking.build_form, Asking.build_lasting_form])
def test_hostile_words_are_no_markup_wherever_they_stand(words: str, form_of: Any) -> None:
    progress = Progress(current_step=words[:1000], steps_completed=1, total_steps=3)
    asking = Asking(
        *(2, "2-abc"),
        AgentTask(
            "shinzo",
            words[:1000],
            TaskState.AWAITING_INPUT,
            agent_id=words[:1000],
            question=words,
            progress=progress,
        ),
        *("Shinzo", words, LOG_URL),
        input_timeout=60.0,
        input_default=words,
        users=(words, words),
    )
    form = form_of(asking)
    harmless = {outside_of_fences(form_of(ask(text)).body) for text in ("Which?", "Which?\n" * 99)}
    assert drop_blank_lines(outside_of_fences(form.body)) in map(drop_blank_lines, harmless)
    assert len(form.body) < 4_000
    assert len(form.subject) <= 140
    assert "\n" not in form.subject
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", form.body
    )


def drop_blank_lines(text: str) -> str:
    # A question of one line has no block of its own.
    return re.sub("\n+", "\n", text)


LONG = [*HOSTILE, "word " * 3000, "\n".join(map(str, range(300))), "\u8fd9\u662f " * 999, "\u8fd9" * 9999, ""]


@pytest.mark.parametrize("words", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("notice", ["", "**The last reply was not sent: it was empty.**"])
@pytest.mark.parametrize("form_of", [Asking.build_form, Asking.build_lasting_form])
def test_lines_fit_the_page_and_are_bounded_in_number(words: str, notice: str, form_of: Any) -> None:
    users = tuple(f"{words[:50]} {number}" for number in range(50))
    progress = Progress(words, 1, 2)
    asking = ask(words, instruction=words, notice=notice, users=users, progress=progress, agent_id=words)
    body = form_of(replace(asking, input_timeout=60.0, input_default=words)).body
    blocks = [re.sub("^`+(text)?$", "", body, flags=re.MULTILINE)]
    lines = [line for line in blocks[0].split("\n") if line and not line.startswith("**")]
    assert len(lines) <= MAX_LINES
    assert all(count_columns(line) <= LINE_LENGTH for line in lines)


def count_columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def test_the_form_tells_all_that_is_needed_to_answer() -> None:
    form = ask(
        "Which company?\n  1. Acme\n  2. Apex",
        agent_id="agt_research",
        progress=Progress("Comparing registers", 3, 8),
        input_timeout=7200.0,
        input_default="Take the first.\nAnd `say` so.",
        users=("Ada Lovelace", "Grace *Hopper*"),
    ).build_form()
    assert form.subject == "Question 2: Which company?"
    assert read_blocks(form.body)[0] == ["  1. Acme", "  2. Apex"]
    assert read_facts(form) == {
        "Who may answer": "Ada Lovelace, Grace *Hopper*",
        "Answer by": "2026-01-01T02:00:00+00:00, about 2 hours after the question",
        "After that": "this reply is sent: Take the first. And `say` so.",
        "Instruction": "Find the company.",
        "Agent task": "tsk_1 on Shinzo, agent agt_research",
        "Progress": "3 of 8 steps done, at: Comparing registers",
    }
    for part in (f"](<{LOG_URL}>)", "**Send**", "**Stop the agent**", "reload it"):
        assert part in form.body
    assert form.params["question_id"]["schema"]["const"] == "2-abc"
    assert form.params["reply"]["schema"]["maxLength"] == 10_000


QUESTIONS = [
    "Which one?",
    "  \n Which one? ",
    "One.\nTwo.\n\n  Three.",
    "word " * 100,
    "x" * 119,
    "x" * 120,
    "x" * 121,
    "x" * 500,
    " ".join(["y" * 50] * 9),
    "one\n" * 5,
]


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_the_question_stands_once_in_subject_and_body_together(question: str) -> None:
    form = ask(question).build_form()
    blocks = read_blocks(form.body)
    shown = [form.subject.removeprefix("Question 2: "), *(blocks[0] if len(blocks) == 2 else [])]
    assert "".join(" ".join(shown).split()).replace("……", "") == "".join(question.split())
    assert len(form.subject) <= len("Question 2: ") + 120


def test_a_question_that_does_not_fit_says_where_all_of_it_is() -> None:
    form = ask("Which?\n" + "One more line.\n" * 100).build_form()
    assert read_blocks(form.body)[0][-1] == f"One more line.{SHORTENED}"
    assert f"The full question is in the [log](<{LOG_URL}>) and in XCom `question`." in form.body
    assert SHORTENED not in ask("Which?\n" + "One more line.\n" * 5).build_form().body


def test_without_a_limit_everyone_may_answer_at_any_time() -> None:
    facts = read_facts(ask("Which?").build_form())
    assert (facts["Who may answer"], facts["Answer by"]) == (ANYONE, "no time limit")
    assert "After that" not in facts


@pytest.mark.parametrize(("policy", "fate"), [("stop", "stopped"), ("leave", "left waiting")])
def test_without_a_default_the_form_tells_what_happens_to_the_agent(policy: str, fate: str) -> None:
    facts = read_facts(ask("Which?", input_timeout=60.0, on_timeout=policy).build_form())
    assert facts["After that"] == f"this task fails, and the agent is {fate}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.5, "about 0.5 s"), (1.0, "about 1 s"), (90.0, "about 90 s"), (9000.0, "about 2.5 hours")),
        *((120.0, "about 2 minutes"), (3600.0, "about 60 minutes"), (5400.0, "about 90 minutes")),
        *((86_400.0, "about 24 hours"), (172_800.0, "about 2 days"), (1e300, "days")),
    ],
)
def test_the_time_to_answer_is_told_roughly(seconds: float, words: str) -> None:
    assert words in read_facts(ask("Which?", input_timeout=seconds).build_form())["Answer by"]


def test_the_line_for_the_sandbox_is_no_part_of_the_instruction() -> None:
    script = '#sandbox {"steps": 3, "ask": ["Which?"]}'
    for instruction, shown in [
        (f"{script}\nFind it.", "Find it."),
        (f" \n {script}\r\nFind it.", "Find it."),
        ("Find it.\n#sandbox", "Find it. #sandbox"),
        ("#sandbox {}\rFind it.", "Find it."),
        ("#sandbox {}\r\nFind it.", "Find it."),
        ("#sandboxes are found", "#sandboxes are found"),
        (script, None),
        ("\n" * 1_000_000 + "Find it.", None),
    ]:
        assert read_facts(ask("Which?", instruction=instruction).build_form()).get("Instruction") == shown


@pytest.mark.parametrize(
    ("progress", "fact"),
    [
        (Progress(steps_completed=3), "3 steps done"),
        (Progress(current_step="Looking"), "at: Looking"),
        (Progress(), None),
    ],
)
def test_progress_is_told_as_far_as_it_is_known(progress: Progress, fact: str | None) -> None:
    assert read_facts(ask("Which?", progress=progress).build_form()).get("Progress") == fact


def test_no_question_still_makes_a_form() -> None:
    assert ask(None).build_form().subject == "Question 2:"


def test_a_form_that_keeps_its_text_says_where_the_newest_question_is() -> None:
    form = ask("Which?", input_timeout=7200.0, users=("Ada",)).build_lasting_form()
    assert "Always answer the latest question" in form.body
    assert read_blocks(form.body)[0] == ["Which?"]
    assert read_facts(form)["Answer by"] == "about 2 hours after a question"
    assert "2026" not in form.body
    assert "This was question 2:" in form.body
    assert "XCom" in form.subject
    assert list(form.params) == ["reply"]


def test_an_answer_tells_who_what_and_when() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    reply = read_response(
        {
            "chosen_options": ["Send"],
            "params_input": {"reply": " One.\nTwo. "},
            "responded_at": moment,
            "responded_by_user": {"id": "7", "name": "Ada"},
        }
    )
    assert reply is not None
    assert (reply.chosen_option, reply.text) == (SEND, " One.\nTwo. ")
    assert reply.answered_by == {"id": "7", "name": "Ada"}
    assert reply.answered_at == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("options", [["Stop the agent"], ("Send", "Stop the agent"), ["Stop the agent", "x"]])
def test_to_stop_wins_over_all_else(options: Any) -> None:
    reply = read_response({"chosen_options": options})
    assert reply is not None
    assert reply.chosen_option == STOP


@pytest.mark.parametrize(
    "given", [None, {}, {"reply": None}, {"reply": 3}, {"reply": " \n"}, {"reply": ["x"]}, "x", [1]]
)
def test_a_reply_that_is_no_text_is_none(given: Any) -> None:
    reply = read_response({"chosen_options": ["Send"], "params_input": given, "responded_by_user": "x"})
    assert reply is not None
    assert reply.text is None
    assert reply.answered_by == {"id": "unknown", "name": "unknown"}


def test_what_cannot_be_stored_is_taken_out_of_an_answer() -> None:
    event = {
        "chosen_options": ["Send"],
        "params_input": {"reply": "a\ud800b\0c"},
        "responded_by_user": {"id": "\ud800", "name": "x" * 1000},
        "responded_at": "2026-01-01T00:00:00+00:00",
    }
    reply = read_response(event)
    assert reply is not None
    assert reply.text == "a?bc"
    assert len(reply.answered_by["name"]) <= 200
    assert reply.answered_at == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "event",
    [
        *(None, 3, "Send", [], {}),
        {"chosen_options": []},
        {"chosen_options": "Send"},
        {"error": "The response timeout has passed.", "error_type": "timeout"},
        {"verdict": "reached", "agent_task_id": "tsk_1"},
    ],
)
def test_what_is_no_answer_is_none(event: Any) -> None:
    assert read_response(event) is None


@pytest.mark.parametrize(
    ("given", "is_other"),
    [({"question_id": "1-x"}, True), ({"question_id": "2-abc"}, False), ({}, False), (None, False)],
)
def test_an_answer_from_a_page_of_an_earlier_question_is_known(given: Any, is_other: bool) -> None:
    assert names_other_question({"params_input": given}, "2-abc") is is_other


def test_the_options_are_the_same_for_every_question() -> None:
    # Airflow keeps the options of a task's first form, and refuses any other.
    assert OPTIONS == ("Send", "Stop the agent")
