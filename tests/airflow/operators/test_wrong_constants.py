"""A wrong constant is refused when the DAG is read, however it reaches the operator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from airflow.sdk import DAG, BaseNotifier, Param, TaskGroup, task

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.operators.agent_task import (
    AgentTaskCancelOperator,
    AgentTaskMessageOperator,
    AgentTaskOperator,
    AgentTaskPauseOperator,
    AgentTaskResumeOperator,
)
from airflow_agent_tasks.operators.arguments import TASK_CHECKS
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor

NOT_FLAGS = ("yes", "no", "true", "", 0, 1, None, [], {})
NOT_TEXTS = ("", " \n", "None", " None ", True, [], ["a"], {"a": "b"}, object())
NOT_NAMES = (*NOT_TEXTS, 5, 1.5)
NOT_SECONDS = ("5", "", 0, -1, True, [], {}, float("nan"), float("inf"))
NOT_WORDS = ("cancel", "", "STOP", None, True, ["stop"], {})

#: What is wrong for the operators of both services.
WRONG_FOR_TASKS: dict[str, tuple[Any, ...]] = {
    "conn_id": (None, *NOT_NAMES),
    "wait_for_completion": NOT_FLAGS,
    "deferrable": NOT_FLAGS,
    **dict.fromkeys(("poll_interval", "timeout", "max_outage", "input_timeout"), NOT_SECONDS),
    "input_recheck_interval": NOT_SECONDS,
    **dict.fromkeys(("on_timeout", "on_kill_policy", "on_uncertain_submit", "on_awaiting_input"), NOT_WORDS),
    "reply": ("Yes.", "", 5, ["Yes."], {"a": "b"}),
    "notifiers": ("slack", "", 5, {"a": print}, [print, "slack"], BaseNotifier, [BaseNotifier]),
    "assigned_users": (
        *("ada", "", 5, 0, {"id": "7"}, {"name": "Ada"}, {"id": 7, "name": "Ada"}, {"id": "7", "name": None}),
        *({"id": "", "name": "Ada"}, ["ada"], [{"id": "7", "name": "Ada"}, 5], {"7": "Ada"}, object()),
    ),
    "input_default": ("", " ", 5, True, [], {}),
    "budget": (
        *({}, "cost", 5, ["cost"], {"money": 1}, {"cost": 0}, {"cost": -1}, {"cost": "1"}, {"steps": True}),
        *({"cost": float("nan")}, {"cost": 1, "step": 5}, {1: 1}),
    ),
    "artifacts_path": NOT_NAMES,
    "max_xcom_bytes": (0, -1, 1.5, True, "65536", [], {}),
}
WRONG_FOR_LIGHTCONE: dict[str, tuple[Any, ...]] = {
    "instruction": (None, *NOT_TEXTS),
    "kind": ("phone", "", "None", 5, True, ["browser"], {}),
    "max_steps": (0, -1, 1.5, True, "many", "None", [5], {}),
    "metadata": (["a"], {"a": 1}, {1: "a"}, {"a": None}, {"a": ["b"]}, "a", "[]", 5, True, (), object()),
    "context": (
        *("hello", {"role": "user", "content": "Hi"}, ["Hi"], [{"role": "system", "content": "Hi"}], 5, True),
        *(
            [{"role": "user"}],
            [{"role": "user", "content": 5}],
            [{"role": "user", "content": "Hi", "x": "y"}],
        ),
    ),
    "persistent": ("maybe", 0, 1, [], {}),
    "start_url": ("example.com", "None", 5, True, ["https://a"], {}),
    "system_prompt": NOT_TEXTS,
    "skip_on_exit_code": ("99", "", True, 1.5, [True], ["99"], {99: "a"}, object()),
    "no_retry_on_exit_code": ("99", "", True, 1.5, [True], ["99"], {99: "a"}, object()),
    "stream": NOT_FLAGS,
}
WRONG_FOR_SHINZO: dict[str, tuple[Any, ...]] = {
    "message": (None, *NOT_TEXTS),
    "agent_id": NOT_NAMES,
    "priority": (0, 11, 5.5, True, "urgent", [5]),
    "metadata": (["a"], {1: "a"}, {"a": {1, 2}}, {"a": object()}, {"a": float("nan")}, "a", 5, True),
    "callback_mode": ("push", "", True, ["poll"], {}),
    "webhook_url": ("example.com", "https://example.com/needs-callback_mode", 5, ["https://a"]),
}
#: Airflow evaluates these, or passes them over, before our operator sees them.
OTHERS: dict[str, dict[str, Any]] = {"input_default": {"input_timeout": 5}}

OPERATORS: dict[Any, tuple[dict[str, Any], dict[str, tuple[Any, ...]]]] = {
    LightconeTaskOperator: ({"instruction": "Do it"}, {**WRONG_FOR_TASKS, **WRONG_FOR_LIGHTCONE}),
    ShinzoTaskOperator: ({"message": "Do it"}, {**WRONG_FOR_TASKS, **WRONG_FOR_SHINZO}),
}
TARGET = {"agent_task_id": "tsk_1", "conn_id": "a"}
WRONG_FOR_ACTIONS: dict[str, tuple[Any, ...]] = {
    "agent_task_id": (None, *NOT_TEXTS),
    "conn_id": (None, *NOT_NAMES),
    "agent_id": NOT_NAMES,
}
STATES = ("finished", "", [], ["completed", "unknown"], 5, None, True, [["completed"]], {})
OPERATORS |= {
    AgentTaskMessageOperator: (
        {**TARGET, "message": "Hi"},
        {**WRONG_FOR_ACTIONS, "message": (None, *NOT_TEXTS)},
    ),
    AgentTaskPauseOperator: (TARGET, WRONG_FOR_ACTIONS),
    AgentTaskResumeOperator: (TARGET, WRONG_FOR_ACTIONS),
    AgentTaskCancelOperator: (TARGET, WRONG_FOR_ACTIONS),
    AgentTaskSensor: (TARGET, {**WRONG_FOR_ACTIONS, "deferrable": NOT_FLAGS, "target_states": STATES}),
}
CASES = [
    pytest.param(operator, name, id=f"{operator.__name__}-{name}")
    for operator, (_, wrong) in OPERATORS.items()
    for name in wrong
]
#: A value of one field that only its partner makes wrong.
NEEDS_PARTNER = ("https://example.com/needs-callback_mode",)


def build(operator: Any, arguments: Mapping[str, Any], name: str, value: Any) -> None:
    operator(task_id="agent", **{**arguments, name: value})


def build_with_defaults_of_dag(operator: Any, arguments: Mapping[str, Any], name: str, value: Any) -> None:
    with DAG("d", schedule=None, default_args={name: value}):
        operator(task_id="agent", **without(arguments, name))


def give_to_partial(operator: Any, arguments: Mapping[str, Any], name: str, value: Any) -> None:
    operator.partial(task_id="agent", **{**arguments, name: value})


def expand(operator: Any, arguments: Mapping[str, Any], name: str, value: Any) -> None:
    operator.partial(task_id="agent", **without(arguments, name)).expand(**{name: [value]})


def expand_kwargs(operator: Any, arguments: Mapping[str, Any], name: str, value: Any) -> None:
    operator.partial(task_id="agent").expand_kwargs([dict(arguments), {**arguments, name: value}])


def map_with_defaults_of_dag(operator: Any, arguments: Mapping[str, Any], name: str, value: Any) -> None:
    with DAG("d", schedule=None, default_args={name: value}):
        operator.partial(task_id="agent").expand_kwargs([without(arguments, name)])


def map_with_defaults_of_group(operator: Any, arguments: Mapping[str, Any], name: str, value: Any) -> None:
    with DAG("d", schedule=None), TaskGroup("g", default_args={name: value}):
        operator.partial(task_id="agent").expand_kwargs([without(arguments, name)])


def without(arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {one: value for one, value in arguments.items() if one != name}


WAYS = [
    build,
    build_with_defaults_of_dag,
    give_to_partial,
    expand,
    expand_kwargs,
    map_with_defaults_of_dag,
    map_with_defaults_of_group,
]


@pytest.mark.filterwarnings("ignore:.*was never mapped")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("operator", "name"), CASES)
def test_a_wrong_constant_is_refused(way: Callable[..., None], operator: Any, name: str) -> None:
    arguments, wrong = OPERATORS[operator]
    for value in wrong[name]:
        if value in NEEDS_PARTNER and way is give_to_partial:
            continue  # the partner may follow in expand
        with pytest.raises(AgentTaskArgumentError, match=name) as caught:
            way(operator, {**arguments, **OTHERS.get(name, {})}, name, value)
        assert len(str(caught.value)) < 600


def test_every_argument_with_a_check_is_tried() -> None:
    tried = {**WRONG_FOR_TASKS, **WRONG_FOR_LIGHTCONE, **WRONG_FOR_SHINZO, **WRONG_FOR_ACTIONS}
    assert set(TASK_CHECKS) <= set(tried)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.filterwarnings("ignore:.*was never mapped")
def test_right_constants_pass_on_every_way(way: Callable[..., None], operator: Any) -> None:
    arguments, _ = OPERATORS[operator]
    for name, value in {**arguments, "conn_id": "mine"}.items():
        way(operator, arguments, name, value)


@pytest.mark.parametrize(
    ("service", "own"), [("lightcone", WRONG_FOR_LIGHTCONE), ("shinzo", WRONG_FOR_SHINZO)]
)
def test_a_decorator_refuses_a_wrong_constant(service: str, own: dict[str, Any]) -> None:
    cases = [(name, value) for name, values in {**WRONG_FOR_TASKS, **own}.items() for value in values]
    for name, value in cases:
        if name not in ("instruction", "message") and value not in NEEDS_PARTNER:
            with pytest.raises(AgentTaskArgumentError, match=name):
                getattr(task, service)(**{name: value})(lambda: "Do it")


def test_a_decorator_refuses_constants_that_do_not_fit_once_the_function_is_called() -> None:
    @task.shinzo(webhook_url="https://example.com")
    def agent() -> str:
        return "Do it"

    with pytest.raises(AgentTaskArgumentError, match="webhook_url needs callback_mode"):
        agent()


@pytest.mark.parametrize("field", ["webhook_url", "callback_mode"])
def test_constants_that_fit_together_only_with_what_follows_pass_until_then(field: str) -> None:
    pair = {"callback_mode": "webhook", "webhook_url": "https://example.com"}
    partial = ShinzoTaskOperator.partial(task_id="agent", message="Do it", **without(pair, field))
    partial.expand(**{field: [pair[field]]})
    partial.expand_kwargs([{field: "{{ params.x }}", "priority": 3}])


@pytest.mark.filterwarnings("ignore:.*was never mapped")
def test_constants_that_can_never_fit_are_refused_when_everything_is_known() -> None:
    partial = ShinzoTaskOperator.partial(task_id="agent", webhook_url="https://example.com")
    with pytest.raises(AgentTaskArgumentError, match="webhook_url needs callback_mode"):
        partial.expand(message=["Do it"])
    with pytest.raises(AgentTaskArgumentError, match="message is required"):
        ShinzoTaskOperator.partial(task_id="agent").expand(priority=[1])


# --- what passes --------------------------------------------------------------------------------------


def read_fields(operator: Any) -> list[str]:
    return [field.name for field in operator.hook_class.dialect.start_fields]


@task
def plan() -> Any:
    return None


@pytest.mark.parametrize("operator", [LightconeTaskOperator, ShinzoTaskOperator])
def test_what_airflow_renders_later_passes_in_every_field(operator: Any) -> None:
    arguments, _ = OPERATORS[operator]
    with DAG("d", schedule=None, params={"x": Param("y")}) as dag, warnings.catch_warnings():
        warnings.simplefilter("error")
        output = plan()
        later = [
            *(
                output,
                output.map(str),
                dag.param("x"),
                "{{ params.x }}",
                "{% if a %}b{% endif %}",
            ),
            *(
                {"a": "{{ params.x }}", "b": 1},
                [{"role": "{{ a }}", "content": output}],
                {"a": {"b": [output]}},
            ),
        ]
        for number, value in enumerate(later):
            for name in (*read_fields(operator), "conn_id"):
                given = {**arguments, name: value}
                if "webhook_url" in given and name != "callback_mode":
                    given["callback_mode"] = "webhook"
                operator(task_id=f"built_{name}_{number}", **given)
                operator.partial(task_id=f"mapped_{name}_{number}", **given).expand_kwargs([{"retries": 1}])
                operator.partial(task_id=f"expanded_{name}_{number}", **without(given, name)).expand(
                    **{name: [value]}
                )


def test_an_operator_of_any_service_takes_its_fields_unseen() -> None:
    operator = AgentTaskOperator(task_id="agent", conn_id="a", start_fields={"kind": "phone"})
    assert operator.start_field_names == ("kind",)


@pytest.mark.parametrize("wrong", [None, "instruction", ["instruction"], 5])
def test_start_fields_are_a_dict(wrong: Any) -> None:
    with pytest.raises(AgentTaskArgumentError, match="start_fields must be a dict of start fields, not"):
        AgentTaskOperator(task_id="agent", conn_id="a", start_fields=wrong)


def test_a_subclass_may_give_a_name_of_ours_another_meaning() -> None:
    class Order(LightconeTaskOperator):
        def __init__(self, *, metadata: int, kind: str, **kwargs: Any) -> None:
            super().__init__(instruction=f"Order {metadata} of {kind}", **kwargs)

    Order(task_id="agent", metadata=5, kind="milk")
    Order.partial(task_id="agent", metadata=5).expand(kind=["milk", "bread"])
    Order.partial(task_id="agent").expand_kwargs([{"metadata": 5, "kind": "milk"}])
    with pytest.raises(AgentTaskArgumentError, match="max_steps"):
        Order.partial(task_id="agent", kind="milk").expand_kwargs([{"metadata": 5, "max_steps": 0}])
