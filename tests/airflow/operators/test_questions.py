"""The agent asks, and a program or a person answers: through ``dag.test()`` and Airflow's REST API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import timezone
from airflow.utils.session import create_session
from pytest_mock import MockerFixture
from sqlalchemy import select, update

from airflow_agent_tasks.airflow_compat.required_action import RequiredAction
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow_agent_tasks.plugin import answer_check, delay_early_answers
from lab.cluster.processes import wait_until
from tests.airflow.questions import BOTH_SERVICES, ask, heard, log_of

BOTH_MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])


@BOTH_MODES
@BOTH_SERVICES
def test_three_questions_of_one_try_are_each_asked_and_answered_once(
    run_with_person: Any, agent_task_sandbox: Any, kind: str, deferrable: bool
) -> None:
    run, forms = run_with_person(
        ask("Which one?", "What colour?", "Sure?", kind=kind, deferrable=deferrable), ["One.", "Red.", "Yes."]
    )
    assert (run.state, run.tries("agent")) == ("success", 1)
    assert heard(agent_task_sandbox) == ["One.", "Red.", "Yes."]
    assert [form["subject"] for form in forms] == [
        "Question 1: Which one?",
        "Question 2: What colour?",
        "Question 3: Sure?",
    ]
    answers = run.xcom("agent", "answers")
    assert [
        (answer["number"], answer["question"], answer["reply"], answer["sent"]) for answer in answers
    ] == [
        (1, "Which one?", "One.", True),
        (2, "What colour?", "Red.", True),
        (3, "Sure?", "Yes.", True),
    ]
    assert answers[0]["answered_by"] == {"id": "Anonymous", "name": "Anonymous"}


def form_of(api: Any, form: dict[str, Any]) -> dict[str, Any]:
    """Return the form as it is now."""
    ti = form["task_instance"]
    path = f"/dags/{ti['dag_id']}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}"
    return dict(api.request("GET", f"{path}/{ti['map_index']}/hitlDetails"))


def wake_early(api: Any, form: dict[str, Any]) -> None:
    """Let Airflow's scheduler wake the parked task before the question's time is up."""
    with create_session() as session:
        parked = update(TaskInstance).filter_by(id=UUID(form["task_instance"]["id"]))
        session.execute(parked.values(trigger_timeout=timezone.utcnow()))
    wake_overdue_tasks()


def let_time_pass(api: Any, form: dict[str, Any]) -> None:
    """Let Airflow's scheduler wake the parked task when the question's time is up: nobody answers."""
    with create_session() as session:
        parked = select(TaskInstance.trigger_timeout).filter_by(id=UUID(form["task_instance"]["id"]))
        deadline = session.scalar(parked)
    assert deadline
    # Woken a moment too early, the task would park again for the rest of its time.
    while timezone.utcnow() <= deadline:
        time.sleep(0.01)
    wake_overdue_tasks()


def wake_overdue_tasks() -> None:
    SchedulerJobRunner(Job(), executors=[]).check_awaiting_input_timeouts()


def answer_and_keep(pages: list[Any]) -> Callable[[Any, Any], None]:
    """Return what answers a question, and keeps the page that showed it."""

    def answer(api: Any, form: Any) -> None:
        pages.append(form)
        api.answer(form, "One.")

    return answer


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "waiting"])
def test_a_program_answers_first_and_a_person_gets_what_it_left(
    run_with_person: Any, agent_task_sandbox: Any, deferrable: bool
) -> None:
    source = ask("May I log in?", "Which one?", "May I pay?", deferrable=deferrable)[:-1]
    run, forms = run_with_person(
        f"""
        def allow(question):
            return "Yes." if question.startswith("May I") else None

        {source}, reply=allow)
        """,
        ["The first."],
    )
    assert run.state == "success"
    assert heard(agent_task_sandbox) == ["Yes.", "The first.", "Yes."]
    assert [form["subject"] for form in forms] == ["Question 2: Which one?"]
    assert [answer["answered_by"]["name"] for answer in run.xcom("agent", "answers")] == [
        "allow",
        "Anonymous",
        "allow",
    ]


def test_a_program_may_answer_many_questions_in_one_stay(run_dag: Any, agent_task_sandbox: Any) -> None:
    source = ask(*(f"{number}?" for number in range(60)))[:-1]
    run = run_dag(f"{source}, reply=lambda question: question[:-1])")
    assert run.state == "success"
    assert heard(agent_task_sandbox) == [str(number) for number in range(60)]


@pytest.mark.parametrize("program", ["lambda question: 1 / 0", "lambda question: ' '", "lambda question: 3"])
def test_what_a_program_cannot_answer_is_left_to_the_policy(
    run_dag: Any, agent_task_sandbox: Any, program: str
) -> None:
    source = ask("Which one?", on_awaiting_input="return")[:-1]
    run = run_dag(f"{source}, reply={program})")
    assert (run.state, run.xcom("agent")["status"]) == ("success", "awaiting_input")
    assert heard(agent_task_sandbox) == []


def test_a_reply_that_is_too_long_is_left_to_the_policy(run_dag: Any, agent_task_sandbox: Any) -> None:
    source = ask("Which one?", on_awaiting_input="fail")[:-1]
    run = run_dag(f"{source}, reply=lambda question: 'x' * 10_001)")
    assert run.task_state("agent") == "failed"
    assert heard(agent_task_sandbox) == []


def test_stop_the_agent_fails_the_task_without_a_retry_and_names_who_decided(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    run, _ = run_with_person(
        ask("May I?", retries=3), [lambda api, form: api.answer(form, None, "Stop the agent")]
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 1)
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["cancelled"]
    assert "Anonymous (id Anonymous) chose 'Stop the agent'" in log_of(capfd)
    (answer,) = run.xcom("agent", "answers")
    assert (answer["chosen_option"], answer["reply"], answer["sent"]) == ("Stop the agent", None, False)


@pytest.fixture
def unchecked_answers(api_server: str, mocker: MockerFixture) -> None:
    """Let the API server take every answer, as one does without this package's plugin."""
    mocker.patch.object(answer_check, "check_answer")


@pytest.mark.parametrize("reply", [None, "", " \n ", "x" * 10_001])
def test_a_reply_that_cannot_be_sent_is_given_back(
    run_with_person: Any, agent_task_sandbox: Any, unchecked_answers: None, reply: str | None
) -> None:
    run, forms = run_with_person(ask("Which one?"), [reply, reply, "The first."])
    assert run.state == "success"
    assert heard(agent_task_sandbox) == ["The first."]
    assert "was not sent" not in forms[0]["body"]
    assert all("was not sent: it " in form["body"] for form in forms[1:])
    assert all("Which one?" in form["subject"] for form in forms)


def test_an_answer_from_a_page_of_an_earlier_question_is_given_back(
    run_with_person: Any, agent_task_sandbox: Any, unchecked_answers: None
) -> None:
    pages: list[Any] = []
    run, forms = run_with_person(
        ask("Which one?", "What colour?"),
        [answer_and_keep(pages), lambda api, form: api.answer(pages[0], "Two, no: one!"), "Red."],
    )
    assert run.state == "success"
    assert heard(agent_task_sandbox) == ["One.", "Red."]
    assert "it answers an earlier question" in forms[2]["body"]


def test_a_stop_from_a_page_of_an_earlier_question_is_given_back(
    run_with_person: Any, agent_task_sandbox: Any, unchecked_answers: None
) -> None:
    pages: list[Any] = []
    run, _ = run_with_person(
        ask("Which one?", "What colour?"),
        [answer_and_keep(pages), lambda api, form: api.answer(pages[0], None, "Stop the agent"), "Red."],
    )
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One.", "Red."])


def test_a_retry_after_nobody_answered_in_time_asks_anew(
    run_with_person: Any, agent_task_sandbox: Any
) -> None:
    source = ask("Which one?", input_timeout=0.5, on_timeout="leave", retries=1)[:-1]
    run, forms = run_with_person(f"{source}, retry_delay=timedelta(0))", [let_time_pass, "One."])
    assert (run.state, run.tries("agent")) == ("success", 2)
    assert heard(agent_task_sandbox) == ["One."]
    assert [form["subject"][:10] for form in forms] == ["Question 1", "Question 2"]


def test_a_stop_whose_worker_is_lost_is_carried_out_by_the_next_try(
    run_with_person: Any, agent_task_sandbox: Any
) -> None:
    source = ask("May I?", retries=1)[:-1].replace("ShinzoTaskOperator", "LosesItsFirstTry")
    run, _ = run_with_person(
        f"""
        from airflow_agent_tasks.hooks.shinzo import ShinzoHook

        class LosesItsFirstTry(ShinzoTaskOperator):
            def take_answer(self, context, **kwargs):
                class Lost(ShinzoHook):
                    def stop_task(self, *args, **kwargs):
                        raise RuntimeError("this worker is lost")

                self.hook = Lost(self.conn_id)
                return super().take_answer(context, **kwargs)

        {source}, retry_delay=timedelta(0))
        """,
        [lambda api, form: api.answer(form, "No, do not!", "Stop the agent")],
    )
    assert (run.task_state("agent"), run.tries("agent")) == ("failed", 2)
    assert heard(agent_task_sandbox) == []
    assert [task["status"] for task in agent_task_sandbox.tasks()] == ["cancelled"]


def test_an_answer_without_the_hidden_field_is_taken(run_with_person: Any, agent_task_sandbox: Any) -> None:
    def answer(api: Any, form: Any) -> None:
        api.answer({**form, "params": {}}, "One.")

    run, _ = run_with_person(ask("Which one?"), [answer])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One."])


def test_a_question_that_is_answered_elsewhere_lets_the_task_go_on(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    from airflow_agent_tasks.hooks.find_hook import find_hook

    forms_after: list[Any] = []

    def answer_elsewhere(api: Any, form: Any) -> None:
        (task,) = agent_task_sandbox.tasks()
        find_hook("shinzo_default").send_message(task["task_id"], "From elsewhere.", task["agent_id"])
        wake_early(api, form)
        assert wait_until(lambda: form_of(api, form)["response_received"], timeout=30)
        forms_after.append(form_of(api, form))

    run, _ = run_with_person(ask("Which one?"), [answer_elsewhere])
    assert run.state == "success"
    assert heard(agent_task_sandbox) == ["From elsewhere."]
    assert "answered on the service or withdrawn" in log_of(capfd)
    assert forms_after[0]["responded_by_user"] is None


def test_a_question_that_still_stands_is_parked_again(run_with_person: Any, agent_task_sandbox: Any) -> None:
    run, forms = run_with_person(ask("Which one?"), [wake_early, wake_early, "One."])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One."])
    assert len({(form["subject"], form["body"], form["created_at"]) for form in forms}) == 1


def test_the_default_reply_is_sent_when_nobody_answers_in_time(
    run_with_person: Any, agent_task_sandbox: Any
) -> None:
    source = ask("Which one?", input_timeout=0.5, input_default="Whichever is first.")
    run, _ = run_with_person(source, [let_time_pass])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["Whichever is first."])
    assert run.xcom("agent", "answers")[0]["answered_by"]["id"] == "input_default"


@pytest.mark.parametrize(("on_timeout", "left"), [("stop", "cancelled"), ("leave", "awaiting_input")])
def test_without_a_default_the_task_fails_when_nobody_answers_in_time(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any, on_timeout: str, left: str
) -> None:
    run, _ = run_with_person(ask("Which one?", input_timeout=0.5, on_timeout=on_timeout), [let_time_pass])
    assert run.task_state("agent") == "failed"
    assert [task["status"] for task in agent_task_sandbox.tasks()] == [left]
    assert "Nobody answered question 1 of Agent task" in log_of(capfd)


def test_an_answer_in_the_last_moment_goes_before_the_default(
    run_with_person: Any, agent_task_sandbox: Any, mocker: MockerFixture
) -> None:
    answered: list[bool] = []

    def answer_late(action: RequiredAction) -> Any:
        # The time is up, and the worker is about to close the form.
        if not answered:
            answered.append(True)
            late["api"].answer(late["form"], "Just in time.")
        return close(action)

    late: dict[str, Any] = {}

    def be_late(api: Any, form: Any) -> None:
        late.update(api=api, form=form)
        let_time_pass(api, form)

    close = RequiredAction.close
    mocker.patch.object(RequiredAction, "close", autospec=True, side_effect=answer_late)
    # The API server delays an answer while a worker is still running, and this one runs on.
    mocker.patch.object(delay_early_answers, "MAX_DELAY", 0.5)
    source = ask("Which one?", input_timeout=0.5, input_default="Whichever.")
    run, _ = run_with_person(source, [be_late])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["Just in time."])


@pytest.mark.parametrize("limit", ["timeout=1.5", "execution_timeout=timedelta(seconds=3)"])
def test_the_time_that_a_person_takes_counts_towards_no_timeout(
    run_with_person: Any, agent_task_sandbox: Any, limit: str
) -> None:
    def think(api: Any, form: Any) -> None:
        time.sleep(3)
        api.answer(form, "One.")

    run, _ = run_with_person(f"{ask('Which one?')[:-1]}, {limit})", [think])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One."])


def test_the_question_is_told_to_notifiers_and_a_failing_one_does_no_harm(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any
) -> None:
    source = ask("Which one?")[:-1]
    run, _ = run_with_person(
        f"""
        from airflow.sdk import BaseNotifier

        class Tell(BaseNotifier):
            template_fields = ("text",)

            def __init__(self, text):
                super().__init__()
                self.text = text

            def notify(self, context):
                print(self.text)

        class Fail(BaseNotifier):
            def notify(self, context):
                raise RuntimeError("the chat is down")

        {source}, notifiers=[Fail(), Tell("asked: {{{{ question }}}} in {{{{ ti.task_id }}}}")])
        """,
        [wake_early, "One."],
    )
    assert run.state == "success"
    log = log_of(capfd)
    assert log.count("asked: Which one? in agent") == 1
    assert "the chat is down" in log


def test_who_may_answer_is_in_the_form(run_with_person: Any) -> None:
    users = [{"id": "7", "name": "Ada"}, {"id": "8", "name": "Bo"}]
    _, forms = run_with_person(ask("Which one?", assigned_users=users), ["One."])
    assert forms[0]["assigned_users"] == users


def test_secrets_are_hidden_in_the_form(run_with_person: Any) -> None:
    source = ask("Is hush-hush-4711 right?", told="Log in with hush-hush-4711.")
    _, forms = run_with_person(
        f"""
        class Masks(ShinzoTaskOperator):
            def execute(self, context):
                from airflow.sdk.log import mask_secret

                mask_secret("hush-hush-4711")
                return super().execute(context)

        {source.replace("ShinzoTaskOperator", "Masks")}
        """,
        ["Yes."],
    )
    assert "hush-hush" not in forms[0]["subject"] + forms[0]["body"]
    assert "***" in forms[0]["body"]


def test_without_the_plugin_the_form_shows_the_question_or_says_where_it_is(
    run_with_person: Any, agent_task_sandbox: Any, capfd: Any, mocker: MockerFixture
) -> None:
    from airflow_agent_tasks.airflow_compat import required_action

    mocker.patch.object(required_action, "PATH", "/nothing/there")
    run, forms = run_with_person(ask("Which one?", "What colour?"), ["One.", "Red."])
    assert (run.state, heard(agent_task_sandbox)) == ("success", ["One.", "Red."])
    log = log_of(capfd)
    assert "Question 2 from the agent:" in log
    if AIRFLOW_V_3_4_PLUS:
        assert "What colour?" in forms[1]["subject"]
    else:
        assert forms[0]["body"] == forms[1]["body"]
        assert "Always answer the latest question" in forms[1]["body"]
        assert "[api] secret_key" in log


def test_downstream_tasks_may_answer_what_is_returned(run_dag: Any, agent_task_sandbox: Any) -> None:
    run = run_dag(
        f"""
        agent = {ask("Which one?", on_awaiting_input="return")}
        where = dict(agent_task_id=agent.output["task_id"], conn_id="shinzo_default")
        answer = AgentTaskMessageOperator(task_id="answer", message="Not {{{{ ti.xcom_pull('agent', "
            "key='question') }}}}", **where)
        chain(answer, AgentTaskSensor(task_id="done", **where))
        """
    )
    assert run.state == "success"
    assert heard(agent_task_sandbox) == ["Not Which one?"]
    assert run.xcom("done")["result"] == "done"
