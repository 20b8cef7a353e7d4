"""A misspelt argument, and one that the service ignores, is refused when the DAG is read, by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import BaseOperator, BaseSensorOperator, task

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.operators import keywords
from airflow_agent_tasks.operators.agent_task import (
    AgentTaskCancelOperator,
    AgentTaskMessageOperator,
    AgentTaskOperator,
    AgentTaskPauseOperator,
    AgentTaskResumeOperator,
)
from airflow_agent_tasks.operators.argument_names import NEEDED_CAPABILITIES, list_names
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor

TIMEOUT_MEANT = "LightconeTaskOperator has no argument 'tiemout'; did you mean 'timeout'?"
LIGHTCONE: dict[str, Any] = {"task_id": "agent", "instruction": "Do it"}
SHINZO: dict[str, Any] = {"task_id": "agent", "message": "Do it"}
SENSOR: dict[str, Any] = {"task_id": "wait", "agent_task_id": "tsk_1", "conn_id": "a"}
STATES_MEANT = "AgentTaskSensor has no argument 'target_state'; did you mean 'target_states'?"


def work() -> str:
    return "Do it"


def map_agent(**arguments: Any) -> Any:
    return LightconeTaskOperator.partial(task_id="agent", **arguments)


def map_sensor(**arguments: Any) -> Any:
    return AgentTaskSensor.partial(task_id="wait", conn_id="a", **arguments)


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: LightconeTaskOperator(**LIGHTCONE, tiemout=4), TIMEOUT_MEANT),
    (lambda: map_agent(tiemout=4), TIMEOUT_MEANT),
    (lambda: map_agent().expand(instruction=["a"], tiemout=[4]), TIMEOUT_MEANT),
    (lambda: map_agent().expand_kwargs([{"instruction": "a"}, {"tiemout": 4}]), TIMEOUT_MEANT),
    (
        lambda: ShinzoTaskOperator(**SHINZO, deferable=True, retires=2),
        "ShinzoTaskOperator has no argument 'deferable'; did you mean 'deferrable'? "
        "It has no argument 'retires'; did you mean 'retries'?",
    ),
    (
        lambda: ShinzoTaskOperator(**SHINZO, max_steps=5),
        "ShinzoTaskOperator has no argument 'max_steps'; the start fields of Shinzo are message, priority, "
        "timeout_override, metadata, callback_mode, webhook_url.",
    ),
    (
        lambda: AgentTaskOperator(task_id="agent", conn_id="a", start_fields={}, tiemout=4),
        "AgentTaskOperator has no argument 'tiemout'; did you mean 'timeout'?",
    ),
    (
        lambda: AgentTaskCancelOperator(task_id="stop", conn_id="a", agent_task_id="1", agent="agt_1"),
        "AgentTaskCancelOperator has no argument 'agent'; did you mean 'agent_id'?",
    ),
    (lambda: AgentTaskSensor(**SENSOR, target_state="paused"), STATES_MEANT),
    (
        lambda: AgentTaskSensor(**SENSOR, softfail=True, retires=2),
        "AgentTaskSensor has no argument 'softfail'; did you mean 'soft_fail'? "
        "It has no argument 'retires'; did you mean 'retries'?",
    ),
    (lambda: map_sensor(target_state="paused"), STATES_MEANT),
    (lambda: map_sensor().expand(agent_task_id=["1"], target_state=["paused"]), STATES_MEANT),
    (lambda: map_sensor().expand_kwargs([{"agent_task_id": "1"}, {"target_state": "paused"}]), STATES_MEANT),
    (
        lambda: task.lightcone(tiemout=4)(work),
        "@task.lightcone has no argument 'tiemout'; did you mean 'timeout'?",
    ),
    (
        lambda: task.shinzo(work).override(tiemout=4)(),
        "@task.shinzo has no argument 'tiemout'; did you mean 'timeout'?",
    ),
]

NO_AGENT_ID = (
    "LightconeTaskOperator does not accept agent_id. Lightcone has no agent choice. Leave agent_id out; kind "
    "and model determine the agent."
)
NO_CALLBACK = "has no argument 'callback_mode'. Lightcone has no callback. Poll the task's status instead."
NO_EXIT_CODE = "Shinzo has no exit code. Use the status: completed or failed."
IGNORED: list[tuple[Callable[[], Any], str]] = [
    (lambda: LightconeTaskOperator(**LIGHTCONE, agent_id="agt_1"), NO_AGENT_ID),
    (lambda: map_agent(agent_id="agt_1"), NO_AGENT_ID),
    (lambda: map_agent().expand(agent_id=["agt_1"]), NO_AGENT_ID),
    (
        lambda: LightconeTaskOperator(**LIGHTCONE, callback_mode="webhook"),
        f"LightconeTaskOperator {NO_CALLBACK}",
    ),
    (lambda: map_agent(callback_mode="webhook"), f"LightconeTaskOperator {NO_CALLBACK}"),
    (lambda: task.lightcone(callback_mode="webhook")(work), f"@task.lightcone {NO_CALLBACK}"),
    (
        lambda: AgentTaskOperator(task_id="agent", conn_id="a", start_fields={}, callback_mode="webhook"),
        "AgentTaskOperator has no argument 'callback_mode'.",
    ),
    (
        lambda: ShinzoTaskOperator(**SHINZO, calback_mode="webhook"),
        "ShinzoTaskOperator has no argument 'calback_mode'; did you mean 'callback_mode'?",
    ),
    (
        lambda: ShinzoTaskOperator(**SHINZO, skip_on_exit_code=99),
        f"ShinzoTaskOperator does not accept skip_on_exit_code. {NO_EXIT_CODE}",
    ),
    (
        lambda: ShinzoTaskOperator(**SHINZO, no_retry_on_exit_code=[0]),
        f"ShinzoTaskOperator does not accept no_retry_on_exit_code. {NO_EXIT_CODE}",
    ),
    (
        lambda: task.shinzo(skip_on_exit_code=99)(work),
        f"@task.shinzo does not accept skip_on_exit_code. {NO_EXIT_CODE}",
    ),
    (
        lambda: task.lightcone(instruction="Do it")(work),
        "@task.lightcone does not accept instruction: return it from the function.",
    ),
    (
        lambda: task.shinzo(work).override(message="Do it")(),
        "@task.shinzo does not accept message: return it from the function.",
    ),
]


@pytest.mark.filterwarnings("ignore:.*was never mapped")
@pytest.mark.parametrize(
    ("read_dag", "message"), [*MISTAKES, *IGNORED], ids=lambda value: "" if callable(value) else value[:60]
)
def test_a_wrong_name_is_refused_when_the_dag_is_read(read_dag: Callable[[], Any], message: str) -> None:
    with pytest.raises(AgentTaskArgumentError) as caught:
        read_dag()
    assert str(caught.value) == message


def test_a_wrong_name_that_another_task_returns_fails_the_mapped_task(run_dag: Any, capfd: Any) -> None:
    run = run_dag(
        """
        @task
        def plan():
            return [{"instruction": "Do it", "tiemout": 4}]

        LightconeTaskOperator.partial(task_id="agent").expand_kwargs(plan())
        """
    )
    assert run.state == "failed"
    assert TIMEOUT_MEANT in capfd.readouterr().out


def test_default_args_may_hold_what_suits_other_tasks_of_the_dag() -> None:
    defaults = {"agent_id": "agt_1", "skip_on_exit_code": 99, "tiemout": 4, "timeout": 7}
    lightcone = LightconeTaskOperator(**LIGHTCONE, default_args=defaults)
    shinzo = ShinzoTaskOperator(**SHINZO, default_args=defaults)
    assert (lightcone.skip_on_exit_code, lightcone.timeout) == ({99}, 7)
    assert (shinzo.agent_id, shinzo.timeout) == ("agt_1", 7)
    sensor = AgentTaskSensor(**SENSOR, default_args={**defaults, "mode": "reschedule"})
    assert (sensor.agent_id, sensor.timeout, sensor.mode) == ("agt_1", 7, "reschedule")


def test_an_argument_that_the_service_ignores_may_be_none() -> None:
    assert ShinzoTaskOperator(**SHINZO, skip_on_exit_code=None).skip_on_exit_code == frozenset()


@pytest.mark.filterwarnings("error:.*was never mapped")
def test_mapping_works_as_before_and_only_on_the_class() -> None:
    mapped = map_agent(timeout=4, retries=1).expand(instruction=["a", "b"])
    assert (mapped.partial_kwargs["timeout"], mapped.partial_kwargs["retries"]) == (4, 1)
    with pytest.raises(TypeError, match="partial can only be called on Operator classes"):
        LightconeTaskOperator(**LIGHTCONE).partial(task_id="other")


def test_a_sensor_is_mapped_as_before() -> None:
    mapped = map_sensor(timeout=4, mode="reschedule").expand(agent_task_id=["1", "2"])
    assert (mapped.partial_kwargs["timeout"], mapped.partial_kwargs["mode"]) == (4, "reschedule")


def test_a_subclass_may_take_arguments_of_its_own() -> None:
    class Order(LightconeTaskOperator):
        def __init__(self, *, shop: str, **kwargs: Any) -> None:
            super().__init__(instruction=f"Order at {shop}", **kwargs)

    assert Order(task_id="agent", shop="Contoso", timeout=4).timeout == 4
    with pytest.raises(
        AgentTaskArgumentError, match=r"(?m)^Order has no argument 'shopp'; did you mean 'shop'\?$"
    ):
        Order.partial(task_id="agent", shopp="Contoso")


# --- what editors, type checkers and help() show ---------------------------------------------------------


def read_signature(operator: Any) -> dict[str, str]:
    """Return the annotation of each keyword of an ``__init__``."""
    parameters = inspect.signature(operator.__init__).parameters.values()
    return {one.name: one.annotation for one in parameters if one.kind is one.KEYWORD_ONLY}


def read_keywords(typed_dict: Any) -> dict[str, str]:
    return {name: annotation.__forward_arg__ for name, annotation in typed_dict.__annotations__.items()}


def read_own_keywords(typed_dict: Any, base: Any) -> dict[str, str]:
    inherited = base.__annotations__
    return {name: text for name, text in read_keywords(typed_dict).items() if name not in inherited}


def test_the_typed_arguments_are_those_of_the_installed_airflow() -> None:
    typed = set(keywords.AirflowOperatorArguments.__annotations__)
    assert typed == set(read_signature(BaseOperator))
    of_sensors = read_own_keywords(keywords.AirflowSensorArguments, keywords.AirflowOperatorArguments)
    assert {**of_sensors, "poke_interval": "timedelta | float"} == read_signature(BaseSensorOperator)


def test_the_typed_common_arguments_are_those_of_the_base_operator() -> None:
    common = read_signature(AgentTaskOperator)
    for name in ("start_fields", "conn_id", *NEEDED_CAPABILITIES):
        del common[name]
    assert read_own_keywords(keywords.AgentTaskArguments, keywords.AirflowArguments) == common


@pytest.mark.parametrize(
    ("typed", "operator", "returned"),
    [
        (keywords.LightconeDecoratorArguments, LightconeTaskOperator, "instruction"),
        (keywords.ShinzoDecoratorArguments, ShinzoTaskOperator, "message"),
    ],
)
def test_the_typed_decorator_arguments_are_those_of_the_operator(
    typed: Any, operator: Any, returned: str
) -> None:
    expected = {**read_signature(operator), "task_id": "str"}
    del expected[returned]
    assert read_own_keywords(typed, keywords.AgentTaskArguments) == expected


def read_help(operator: Any) -> dict[str, str]:
    """Return the paragraph of each argument."""
    paragraphs = re.split(r"\n\s*(?=:)", inspect.cleandoc(operator.__doc__))[1:]
    documented = {
        match[1]: text for text in paragraphs if (match := re.match(r":param (\w+):", text)) is not None
    }
    assert len(documented) == sum(text.startswith(":param") for text in paragraphs)
    return documented


@pytest.mark.parametrize("operator", [AgentTaskOperator, LightconeTaskOperator, ShinzoTaskOperator])
def test_help_shows_each_argument_once_and_its_default(operator: Any) -> None:
    documented = read_help(operator)
    dialect = getattr(operator.hook_class, "dialect", None)
    ignored = {
        name for name, needed in NEEDED_CAPABILITIES.items() if dialect and needed not in dialect.capabilities
    }
    own = {"start_fields"} if dialect is None else {field.name for field in dialect.start_fields}
    taken = list_names(operator) - list_names(BaseOperator) - ignored - ({"start_fields"} - own)
    assert set(documented) == taken
    silent = {name for name, text in documented.items() if "efault" not in text} - own - {"conn_id"}
    assert silent == set()


@pytest.mark.parametrize(
    ("operator", "own"),
    [
        (AgentTaskMessageOperator, ["message"]),
        (AgentTaskPauseOperator, []),
        (AgentTaskResumeOperator, []),
        (AgentTaskCancelOperator, []),
    ],
)
def test_help_shows_each_argument_of_an_action(operator: Any, own: list[str]) -> None:
    assert list(read_help(operator)) == [*own, "agent_task_id", "conn_id", "agent_id"]
    # A field list that follows a text without an empty line is part of that text.
    assert "\n\n:param" in operator.__doc__
    assert ":raises AirflowFailException:" in operator.__doc__


def test_help_shows_each_argument_of_the_sensor_its_default_and_its_unit() -> None:
    documented = read_help(AgentTaskSensor)
    assert set(documented) == set(read_signature(AgentTaskSensor))
    assert {name for name, text in documented.items() if "efault" not in text} == {"agent_task_id", "conn_id"}
    assert "seconds" in documented["poke_interval"]
