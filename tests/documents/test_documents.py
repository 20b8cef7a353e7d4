"""The documents name tests, fields and states that exist, and leave none out."""

from __future__ import annotations

import ast
import re
from itertools import product
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.services.lightcone import LightconeDialect
from airflow_agent_tasks.services.shinzo import ShinzoDialect
from lab.faults.cases import CASES
from lab.matrix.cells import DATABASES, Cell, explain_skip
from lab.matrix.rings import RINGS
from lab.matrix.versions import OLDEST_PYTHONS, list_airflow_versions, list_pythons, release_line

ROOT = Path(__file__).parents[2]
COVERAGE = (ROOT / "docs" / "reference" / "coverage.md").read_text()
GUARANTEES = (ROOT / "docs" / "explanation" / "guarantees.md").read_text()
NAMED_TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", COVERAGE + GUARANTEES)))


@pytest.mark.parametrize(("path", "name"), NAMED_TESTS)
def test_a_test_that_a_document_names_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    functions = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions


def test_the_guarantees_name_every_case_of_the_fault_table() -> None:
    assert set(re.findall(r"case `(\w+)`", GUARANTEES)) == {case.name for case in CASES}


@pytest.mark.parametrize(
    "dialect", [LightconeDialect(), ShinzoDialect()], ids=lambda dialect: dialect.service
)
def test_the_coverage_lists_every_start_field(dialect: LightconeDialect | ShinzoDialect) -> None:
    section = COVERAGE.split(f"## {dialect.title}\n")[1].split("\n## ")[0]
    fields = re.search(r"### (?:Start|Submit) fields\n(.*?)\n### ", section, re.DOTALL)
    assert fields
    listed = {word for word in re.findall(r"`(\w+)`", fields[1]) if not word.startswith("test")}
    assert listed == {field.name for field in dialect.start_fields}


def test_the_coverage_lists_every_state() -> None:
    section = COVERAGE.split("## States\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == {state.value for state in TaskState}


@pytest.mark.parametrize(
    "page",
    sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_a_link_inside_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def find_in_project(pattern: str) -> str:
    found = re.search(pattern, (ROOT / "pyproject.toml").read_text())
    assert found
    return found[1]


def test_the_range_of_airflow_is_what_the_matrix_runs_on() -> None:
    versions = list_airflow_versions()
    major, minor = Version(versions[-1]).release[:2]
    required = SpecifierSet(find_in_project(r'"apache-airflow([<>=][^"]+)"'))
    assert required == SpecifierSet(f">={versions[0]},<{major}.{minor + 1}")


def test_the_range_of_python_is_that_of_the_classifiers() -> None:
    first, last = (Version(list_pythons()[place]) for place in (0, -1))
    required = SpecifierSet(find_in_project(r'requires-python = "([^"]+)"'))
    assert required == SpecifierSet(f">={first},<{last.major}.{last.minor + 1}")


def test_the_page_of_versions_names_what_the_matrix_runs() -> None:
    rows = re.findall(
        r"^\| (3\..*) \|$", (ROOT / "docs" / "reference" / "versions.md").read_text(), re.MULTILINE
    )
    lists = [[cell.split(", ") for cell in row.lower().split(" | ")] for row in rows]
    named = [Cell(*values) for columns in lists for values in product(*columns)]
    every = product(list_airflow_versions(), list_pythons(), DATABASES, RINGS)
    assert len(named) == len(set(named))
    assert set(named) == {Cell(*values) for values in every if explain_skip(Cell(*values)) is None}


def test_the_readme_names_each_release_line_with_its_pythons() -> None:
    readme = (ROOT / "README.md").read_text()
    for line in {release_line(version) for version in list_airflow_versions()}:
        releases = [version for version in list_airflow_versions() if release_line(version) == line]
        oldest = OLDEST_PYTHONS.get(line, list_pythons()[0])
        row = f"| {line} ({', '.join(releases)}) | {oldest} to {list_pythons()[-1]} | SQLite, PostgreSQL |"
        assert row in readme


def read_words_of_the_package() -> str:
    """Return the package's source with its split texts joined."""
    source = "\n".join(path.read_text() for path in (ROOT / "airflow_agent_tasks").rglob("*.py"))
    return re.sub(r'"\s*f?"', "", source)


def list_quoted_messages(page: str, heading: str) -> list[str]:
    """Return what a page's table quotes of our log lines, without the parts that differ."""
    text = (ROOT / "docs" / "how-to" / page).read_text()
    table = text.split(f"## {heading}\n")[1].split("\n### ")[0]
    quoted = [text for row in table.splitlines() for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    return [part.strip() for text in quoted for part in text.split("…") if " " in part.strip()]


#: What Airflow itself says, and what is put together of a status.
OTHER_MESSAGES = ("finished with state success", "answered 4", "responded with 4", "and on_awaiting_input is")


@pytest.mark.parametrize(
    "text",
    [
        text
        for page, heading in (
            ("debug-a-stuck-task.md", "It failed"),
            ("watch-an-agent.md", "If you see this in the log"),
        )
        for text in list_quoted_messages(page, heading)
        if not text.startswith(OTHER_MESSAGES)
    ],
)
def test_a_log_line_that_a_page_explains_is_one_of_ours(text: str) -> None:
    assert text in read_words_of_the_package()
