"""Every code block of the documents is tried: run where it can be, else parsed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.documents.code_blocks import PARSERS, ROOT, SHOWN_ONLY, Trial, list_code_blocks

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_code_block_names_its_language(page: Path) -> None:
    # Also none that is only indented: nobody could tell what it holds.
    unknown = [
        f"{page.name}:{block.line} {block.language or 'no language'}"
        for block in list_code_blocks(page)
        if block.language not in {"python", *PARSERS, *SHOWN_ONLY}
    ]
    assert unknown == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if list_code_blocks(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_each_code_block_works(
    page: Path,
    airflow_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    dags_folder = airflow_home / "dags"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(dags_folder))
    before = set(sys.modules)

    def find_fixture(name: str) -> Any:
        fixture = request.getfixturevalue(name)
        if name == "agent_task_sandbox":
            fixture.forget()  # as it is at the start of each test, and all tests of a page are one here
        return fixture

    trial = Trial(dags_folder, find_fixture)
    try:
        for block in list_code_blocks(page):
            trial.try_block(page, block)
    finally:
        for name in set(sys.modules) - before:
            # A DAG file of one page is not that of the next one.
            if (dags_folder / f"{name}.py").exists():
                del sys.modules[name]
    record_property("code blocks run", trial.run_count)
    record_property("code blocks parsed", trial.parsed_count)
