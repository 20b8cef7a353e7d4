"""A reply on its way to the agent: lost, late, refused, or left by a worker that is lost."""

from __future__ import annotations

import json
from typing import Any

from pytest_mock import MockerFixture

from airflow_agent_tasks.lifecycle import answer_questions, question_log
from tests.airflow.questions import BOTH_SERVICES, ask, heard, log_of


def test_a_retry_sends_the_answer_that_the_try_before_was_given(
    run_with_person: Any, agent_task_sandbox: Any
) -> None:
    source = ask("Which one?", retries=1)[:-1] + ", retry_delay=timedelta(0))"
    run, forms = run_with_person(
        f"""
        class LosesItsFirstTry(ShinzoTaskOperator):
            def take_answer(self, context, **kwargs):
                if context["ti"].try_number == 1:
                    raise RuntimeError("this worker is lost")
                return super().take_answer(context, **kwargs)

        {source.replace("ShinzoTaskOperator", "LosesItsFirstTry")}
        """,
        ["One."],
    )
    assert (run.state, run.tries("agent")) == ("success", 2)
    assert heard(agent_task_sandbox) == ["One."]
    assert len(forms) == 1
    assert [answer["reply"] for answer in run.xcom("agent", "answers")] == ["One."]


@BOTH_SERVICES
def test_a_reply_whose_answer_is_lost_is_not_sent_again_once_the_agent_has_gone_on(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any, kind: str
) -> None:
    agent_task_sandbox.faults([{"method": "POST", "path": "/messages?$", "times": 1, "drop": "after"}])
    run, _ = run_with_person(ask("Which one?", "What colour?", kind=kind), ["One.", "Red."])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One.", "Red."])
    assert all(answer["sent"] for answer in run.xcom("agent", "answers"))
    assert "The agent received the reply to question 1" in log_of(capfd)


@BOTH_SERVICES
def test_a_reply_that_did_not_arrive_is_sent_again_after_a_while(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any, mocker: MockerFixture, kind: str
) -> None:
    mocker.patch.object(question_log, "SETTLING_TIME", 0.5)
    mocker.patch.object(answer_questions, "SETTLING_CHECK", 0.1)
    agent_task_sandbox.faults([{"method": "POST", "path": "/messages?$", "times": 1, "drop": "before"}])
    run, _ = run_with_person(ask("Which one?", kind=kind), ["One."])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One."])
    assert "the agent is still asking: sending the reply again" in log_of(capfd)


def test_a_reply_that_never_arrives_fails_the_try_and_the_next_one_sends_it(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(question_log, "SETTLING_TIME", 0.05)
    mocker.patch.object(answer_questions, "SETTLING_CHECK", 0.05)
    agent_task_sandbox.faults([{"method": "POST", "path": "/messages?$", "times": 5, "drop": "before"}])
    run, forms = run_with_person(f"{ask('Which one?', retries=1)[:-1]}, retry_delay=timedelta(0))", ["One."])
    assert (run.state, run.tries("agent")) == ("success", 2)
    assert (heard(agent_task_sandbox), len(forms)) == (["One."], 1)
    assert "did not arrive in 5 attempts" in log_of(capfd)


def test_a_service_that_refuses_the_reply_fails_the_task_and_says_why(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    body = json.dumps({"error": "the reply is too rude"})
    agent_task_sandbox.faults([{"method": "POST", "path": "/message$", "status": 422, "body": body}])
    run, _ = run_with_person(ask("Which one?"), ["One."])
    assert (run.task_state("agent"), heard(agent_task_sandbox)) == ("failed", [])
    assert "the reply is too rude" in log_of(capfd)


def test_a_reply_that_comes_too_late_is_told_and_the_result_is_delivered(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    def end_it_meanwhile(api: Any, form: Any) -> None:
        from airflow_agent_tasks.hooks.find_hook import find_hook

        (task,) = agent_task_sandbox.tasks()
        find_hook("shinzo_default").send_message(task["task_id"], "From elsewhere.", task["agent_id"])
        api.answer(form, "One.")

    run, _ = run_with_person(ask("Which one?"), [end_it_meanwhile])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["From elsewhere."])
    assert "Did not send the reply to question 1, because the agent no longer asks it" in log_of(capfd)
    assert run.xcom("agent", "answers")[0]["sent"] is False
