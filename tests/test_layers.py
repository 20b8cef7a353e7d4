"""
The layers of the package: which module may import which.

Read from the source of every module, so that an import counts wherever it stands: inside a function it still
ties the two modules together. One under ``TYPE_CHECKING`` counts too, since whoever reads or checks the
module needs the other one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from lab.package_imports import PACKAGE, find_circles, list_modules
from lab.package_imports import room_of as layer_of

REPOSITORY = Path(__file__).parent.parent
ROOT = REPOSITORY / PACKAGE
MAX_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_TEST_LINES = 500

#: What each layer may import of ours besides itself: layers, or single modules. A new folder needs a line.
GROUND = {"text", "logger_protocol", "agent_task", "errors", "documentation"}
ALLOWED: dict[str, set[str]] = {
    "documentation": set(),
    # Airflow imports it for each command and in each process, so it may name the rest in strings only.
    "preload": set(),
    "text": set(),
    "logger_protocol": set(),
    "agent_task": {"text"},
    "errors": {"text", "agent_task", "documentation"},
    "services": GROUND,
    "lifecycle": GROUND | {"services"},
    "client": GROUND | {"services"},
    "airflow_compat": GROUND | {"services", "lifecycle", "client"},
    "configuration": GROUND,
    "callbacks": {"airflow_compat", "configuration"},
    "hooks": GROUND | {"services", "client", "connection_form"},
    "telemetry": GROUND | {"lifecycle"},
    "polling": GROUND
    | {"services", "lifecycle", "client", "airflow_compat", "configuration", "hooks", "telemetry"},
    "triggers": GROUND
    | {"services", "lifecycle", "airflow_compat", "configuration", "hooks", "polling", "telemetry"},
    "worker": GROUND
    | {"services", "lifecycle", "airflow_compat", "callbacks", "hooks", "polling", "triggers", "telemetry"},
    "operators": GROUND
    | {"services", "lifecycle", "airflow_compat", "callbacks", "hooks", "polling", "triggers", "worker"}
    | {"configuration", "telemetry"},
    "sensors": GROUND
    | {"services", "lifecycle", "airflow_compat", "configuration", "hooks", "polling", "triggers"}
    | {
        f"operators.{name}"
        for name in ("arguments", "argument_names", "keywords", "task_documentation", "value_checks")
    }
    | {"operators.links", "worker.links", "worker.failures"},
    "decorators": GROUND | {"services", "operators", "worker.failures"},
    "operations": GROUND | {"services", "lifecycle", "airflow_compat", "hooks"},
    "plugin": GROUND
    | {"services", "lifecycle", "client", "airflow_compat", "callbacks", "hooks", "provider_info"}
    | {"telemetry", "operations", "preload"},
    # Airflow imports it in every process that lists providers, so it may name the rest in strings only.
    "provider_info": {"connection_form", "configuration.options"},
    "connection_form": {"services", "documentation"},
    "sandbox": GROUND | {"services"},
    "cli": GROUND
    | {"services", "client", "airflow_compat", "callbacks", "hooks", "provider_info", "sandbox.cli"}
    | {"configuration", "operations", "preload"},
    "": set(),
}

#: Rooms, and single modules, that are pure: nothing in them reads a clock, waits or does I/O.
PURE = {*GROUND, "services", "lifecycle", "polling.circuit_breaker"}
WITHOUT_AIRFLOW = {
    *GROUND,
    "services",
    "lifecycle",
    "client",
    "provider_info",
    "connection_form",
    "preload",
    "sandbox",
    "",
}
#: Modules of those layers that may import Airflow all the same, inside functions and for types.
LAZY_AIRFLOW = {"sandbox.cli"}

#: What every other room may import of Airflow, and why it counts as public. Airflow's page "Public Interface"
#: and the reference of the Task SDK name most of them; what neither names may change in any release.
PUBLIC_AIRFLOW = {
    "airflow.sdk": "the public interface for DAG authors and tasks: all names in its __all__, and no others",
    "airflow.sdk.exceptions": "where the public exceptions stand; airflow.exceptions only passes them on",
    "airflow.sdk.log": "mask_secret is documented; amask_secret and redact stand beside it, without a _",
    "airflow.triggers.base": "BaseTrigger and TriggerEvent are documented, for deferrable operators",
    "airflow.listeners": "hookimpl is documented, for listeners",
    "airflow.plugins_manager": "AirflowPlugin is documented, for plugins",
    "airflow.cli.cli_config": "documented for the commands that a provider adds",
    "airflow.providers.common.compat.sdk": "another provider's public module, for all providers",
    "airflow.providers.openlineage.extractors": "its page on operators documents OperatorLineage",
}
DOOR = "airflow_compat"

#: All that the pure rooms need besides themselves.
PURE_MODULES = {
    *(
        "__future__",
        "abc",
        "binascii",
        "collections",
        "collections.abc",
        "contextlib",
        "dataclasses",
        "datetime",
        "email.utils",
        "enum",
        "hashlib",
        "http",
        "itertools",
    ),
    *("json", "math", "msgspec", "random", "re", "textwrap", "typing", "unicodedata", "urllib.parse"),
}
#: The pure classes that draw: each takes a function for it, which is ``random.random`` by default.
TAKES_CHANCE = {
    "lifecycle.wait_policy": ["TaskWait"],
    "polling.circuit_breaker": ["CircuitBreaker"],
}
IMPURE_CALLS = {
    *("now", "utcnow", "today", "localtime", "formatdate", "make_msgid"),
    *("open", "print", "input", "__import__", "import_module"),
}


@dataclass(frozen=True)
class Import:
    """One import statement's target, and where it stands."""

    target: str
    line: int
    is_lazy: bool
    is_for_types: bool


MODULES = list_modules(ROOT)
#: What the limits of length hold for, the lab too.
SOURCES = [
    path.relative_to(REPOSITORY)
    for folder in (PACKAGE, "lab")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


@cache
def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def list_targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import hides which layer it reaches"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            is_ours = full.startswith(f"{PACKAGE}.") and full.removeprefix(f"{PACKAGE}.") in MODULES
            yield full if is_ours else str(node.module)


def walk_imports(node: ast.AST, *, is_lazy: bool = False, is_for_types: bool = False) -> Iterator[Import]:
    for target in list_targets(node):
        yield Import(target, getattr(node, "lineno", 0), is_lazy, is_for_types)
    is_lazy = is_lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for_types = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
    for child in ast.iter_child_nodes(node):
        yield from walk_imports(child, is_lazy=is_lazy, is_for_types=is_for_types or child in for_types)


def list_imports(module: str) -> list[Import]:
    return list(walk_imports(parse(module)))


def list_our_imports(module: str) -> list[tuple[str, Import]]:
    """Return what a module imports of ours, as names below the package."""
    ours = [found for found in list_imports(module) if found.target.partition(".")[0] == PACKAGE]
    return [(found.target.removeprefix(PACKAGE).removeprefix("."), found) for found in ours]


def is_pure(module: str) -> bool:
    return bool({layer_of(module), module} & PURE)


def is_allowed(module: str, target: str) -> bool:
    layer = layer_of(module)
    # The package itself is imported with every one of its modules, and holds nothing.
    return layer_of(target) in {"", layer, *ALLOWED[layer]} or target in ALLOWED[layer]


def test_every_folder_has_a_place_among_the_layers() -> None:
    assert {layer_of(module) for module in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may_know(module: str) -> None:
    wrong = [
        f"line {found.line}: {found.target}"
        for target, found in list_our_imports(module)
        if not is_allowed(module, target)
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {module: {target for target, _ in list_our_imports(module)} - {module, ""} for module in MODULES}
    assert find_circles(arrows) == []


def test_the_layers_go_one_way() -> None:
    above: set[str] = set()
    for layer in (
        *("", "documentation", "text", "logger_protocol", "agent_task", "errors"),
        *("services", "lifecycle", "client"),
        *("configuration", "connection_form", "airflow_compat", "callbacks", "hooks", "telemetry"),
        *("polling", "triggers", "worker", "operators"),
    ):
        assert ALLOWED[layer] <= above
        above.add(layer)


@pytest.mark.parametrize(
    "module", [module for module in MODULES if layer_of(module) != "sandbox" and module != "cli.commands"]
)
def test_nothing_imports_the_sandbox_but_itself_and_the_list_of_commands(module: str) -> None:
    assert [target for target, _ in list_our_imports(module) if layer_of(target) == "sandbox"] == []


@pytest.mark.parametrize("module", [module for module in MODULES if layer_of(module) in WITHOUT_AIRFLOW])
def test_nothing_left_of_the_hooks_imports_airflow(module: str) -> None:
    airflow = [found for found in list_imports(module) if found.target.partition(".")[0] == "airflow"]
    if module in LAZY_AIRFLOW:
        airflow = [found for found in airflow if not (found.is_lazy or found.is_for_types)]
    assert airflow == []


def list_airflow_names(tree: ast.AST) -> Iterator[str]:
    """Yield each name of Airflow that a module imports, wherever it stands, or holds as a text of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = re.findall(r"^airflow\.[\w.:]+$", node.value)
        else:
            continue
        yield from (name for name in names if name == "airflow" or name.startswith("airflow."))


def is_public(name: str) -> bool:
    """Tell whether a module outside the door may import a name of Airflow."""
    module, _, attribute = name.rpartition(".")
    if module == "airflow.sdk":
        import airflow.sdk

        return attribute in airflow.sdk.__all__
    return module in PUBLIC_AIRFLOW and not attribute.startswith("_")


@pytest.mark.parametrize("module", [module for module in MODULES if layer_of(module) != DOOR])
def test_only_the_door_imports_private_parts_of_airflow(module: str) -> None:
    private = {name for name in list_airflow_names(parse(module)) if not is_public(name)}
    assert private == set()


def test_each_module_behind_the_door_stands_in_its_table() -> None:
    behind = {module.partition(".")[2] for module in MODULES if layer_of(module) == DOOR} - {""}
    named = set(re.findall("``([a-z_]+)``", ast.get_docstring(parse(DOOR)) or ""))
    assert behind <= named


@pytest.mark.parametrize("module", [module for module in MODULES if is_pure(module)])
def test_the_pure_rooms_import_nothing_that_does_io_waits_or_reads_a_clock(module: str) -> None:
    others = [found.target for found in list_imports(module) if not found.target.startswith(PACKAGE)]
    assert set(others) <= PURE_MODULES


@pytest.mark.parametrize("module", [module for module in MODULES if is_pure(module)])
def test_the_pure_rooms_call_nothing_that_does_io_or_reads_a_clock(module: str) -> None:
    assert set(list_called_names(parse(module))) & IMPURE_CALLS == set()


def list_called_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr


def test_the_pure_rooms_take_chance_only_as_a_default_that_a_caller_may_replace() -> None:
    for module in MODULES:
        if not is_pure(module):
            continue
        uses = [
            node for node in ast.walk(parse(module)) if isinstance(node, ast.Name) and node.id == "random"
        ]
        defaults = [node for name in TAKES_CHANCE.get(module, ()) for node in list_defaults(module, name)]
        assert [use.lineno for use in uses if use not in defaults] == []


def list_defaults(module: str, name: str) -> list[ast.AST]:
    """Return what stands in the default values of a class's ``__init__``."""
    classes = [node for node in parse(module).body if isinstance(node, ast.ClassDef)]
    found = next(node for node in classes if node.name == name)
    functions = [node for node in found.body if isinstance(node, ast.FunctionDef)]
    arguments = next(function.args for function in functions if function.name == "__init__")
    defaults = [*arguments.defaults, *filter(None, arguments.kw_defaults)]
    return [node for default in defaults for node in ast.walk(default)]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_module_has_fewer_than_300_lines(path: Path) -> None:
    assert len((REPOSITORY / path).read_text(encoding="utf-8").splitlines()) < MAX_LINES


def list_function_lengths(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the lines of each function, from its ``def`` to its end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_function_has_at_most_50_lines(path: Path) -> None:
    lengths = list_function_lengths(ast.parse((REPOSITORY / path).read_text(encoding="utf-8")))
    assert [(name, lines) for name, lines in lengths if lines > MAX_FUNCTION_LINES] == []


def test_a_test_file_has_at_most_500_lines() -> None:
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for path in Path(__file__).parent.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_TEST_LINES} == {}


@pytest.mark.parametrize("module", ["", "provider_info", "services.lightcone", "sandbox.pytest_plugin"])
def test_what_every_process_imports_imports_neither_airflow_nor_fastapi(module: str) -> None:
    name = f"{PACKAGE}.{module}".rstrip(".")
    program = f"import sys, {name}; print([m for m in ('airflow', 'fastapi', {name!r}) if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, repr([name])), result.stderr


# --- the checks themselves -----------------------------------------------------------------------------


def test_a_circle_is_found() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": {"e"}}
    assert find_circles(arrows) == [["a", "b", "c"], ["e", "f"]]


SAMPLE = """
import time, airflow_agent_tasks.errors
from airflow_agent_tasks import hooks
from airflow_agent_tasks.hooks import find_hook
from airflow_agent_tasks.hooks.find_hook import find_hook
if TYPE_CHECKING:
    from airflow_agent_tasks.agent_task import AgentTask
else:
    import socket
class Some:
    async def run(self):
        if True:
            import airflow.sdk
"""


def test_an_import_is_found_wherever_it_stands() -> None:
    found = [(one.target, one.is_lazy, one.is_for_types) for one in walk_imports(ast.parse(SAMPLE))]
    assert found == [
        ("time", False, False),
        ("airflow_agent_tasks.errors", False, False),
        ("airflow_agent_tasks.hooks", False, False),
        ("airflow_agent_tasks.hooks.find_hook", False, False),
        ("airflow_agent_tasks.hooks.find_hook", False, False),
        ("airflow_agent_tasks.agent_task", False, True),
        ("socket", False, False),
        ("airflow.sdk", True, False),
    ]


LENGTHS_SAMPLE = """
@decorated
def outer(
    one,
):
    async def inner():
        return 1
    return inner
class Some:
    def method(self): ...
"""


def test_a_function_is_measured_from_its_def_to_its_end_wherever_it_stands() -> None:
    lengths = dict(list_function_lengths(ast.parse(LENGTHS_SAMPLE)))
    assert lengths == {"outer": 6, "inner": 2, "method": 1}


PAST_THE_DOOR_SAMPLE = """
import airflow.sdk
import airflow.models.dag as dag
from airflow.sdk import BaseHook, timezone
from airflow.sdk.log import mask_secret, _secret
if TYPE_CHECKING:
    from airflow.sdk.execution_time.hitl import HITLUser
class Some:
    def run(self):
        from airflow import settings
        import_module("airflow.jobs.job")
        import_string("airflow.models.hitl:HITLDetail")
        print("airflow.cfg is read", "airflow_agent_tasks.errors")
"""


def test_a_private_part_of_airflow_is_found_wherever_it_stands() -> None:
    found = [name for name in list_airflow_names(ast.parse(PAST_THE_DOOR_SAMPLE)) if not is_public(name)]
    assert sorted(found) == [
        "airflow.jobs.job",
        "airflow.models.dag",
        "airflow.models.hitl:HITLDetail",
        "airflow.sdk",
        "airflow.sdk.execution_time.hitl.HITLUser",
        "airflow.sdk.log._secret",
        "airflow.sdk.timezone",
        "airflow.settings",
    ]


@pytest.mark.parametrize(
    ("module", "target", "expected"),
    [
        ("sensors.agent_task", "worker.failures", True),
        ("sensors.agent_task", "operators.agent_task", False),
        ("operators.agent_task", "sensors.agent_task", False),
        ("worker.driver", "operators.agent_task", False),
        ("polling.status_check", "worker.kill", False),
        ("hooks.agent_task", "polling.status_check", False),
        ("client.sync_client", "hooks.connection_settings", False),
        ("services.http", "client.settings", False),
        ("lifecycle.question_log", "airflow_compat.state_store", False),
        ("errors", "agent_task", True),
        ("agent_task", "errors", False),
        ("errors", "services.http", False),
        ("provider_info", "connection_form", True),
        ("provider_info", "hooks.lightcone", False),
        ("sandbox.tasks", "agent_task", True),
        ("sandbox.tasks", "client.sync_client", False),
        ("plugin.routes", "sandbox.server", False),
        ("hooks.find_hook", "hooks.agent_task", True),
    ],
)
def test_a_forbidden_arrow_is_told_from_an_allowed_one(module: str, target: str, expected: bool) -> None:
    assert is_allowed(module, target) is expected
