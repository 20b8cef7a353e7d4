"""The documents name tests, fields and states that exist, and leave none out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.services.lightcone import LightconeDialect
from airflow_agent_tasks.services.shinzo import ShinzoDialect

ROOT = Path(__file__).parents[1]
COVERAGE = (ROOT / "docs" / "coverage.md").read_text()
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
NAMED_TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", COVERAGE + GUARANTEES)))


@pytest.mark.parametrize(("path", "name"), NAMED_TESTS)
def test_a_test_that_a_document_names_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    functions = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions


def list_fault_cases() -> set[str]:
    calls = [
        node
        for path in (ROOT / "lab" / "faults" / "cases").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    place_of_name = {"Case": 0, "scenario": 1}
    names = [call.args[place_of_name[call.func.id]] for call in calls if call.func.id in place_of_name]
    return {name.value for name in names if isinstance(name, ast.Constant)}


def test_the_guarantees_name_every_case_of_the_fault_table() -> None:
    cases = list_fault_cases()
    assert len(cases) > 30
    assert set(re.findall(r"case `(\w+)`", GUARANTEES)) == cases


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
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name
)
def test_a_link_inside_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
