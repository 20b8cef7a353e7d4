"""A browser on the page of a real Airflow, as a person has it; screenshots go to ``test-artefacts/``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from required_actions import RequiredActions
from visitor import Visitor

ARTEFACTS = Path(__file__).resolve().parents[2] / "test-artefacts"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Nothing gets out of this browser: no name leads anywhere.
ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


# Not for the whole session: while it is there, its event loop is taken for that of every test.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    programs = [program for name in CHROMIUM_NAMES if (program := shutil.which(name))]
    if not programs:
        pytest.fail(
            f"There is no Chromium on this machine ({', '.join(CHROMIUM_NAMES)} are not on the PATH). "
            "Install one, for instance with: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=programs[0], args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, cluster: Any, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    visitor = Visitor(browser, cluster.api.base_url, ARTEFACTS / name)
    yield visitor
    visitor.leave(keep_trace=request.node.stash.get(FAILED, False))


@pytest.fixture
def required_actions(visitor: Visitor, cluster: Any) -> RequiredActions:
    return RequiredActions(visitor, cluster.api)
