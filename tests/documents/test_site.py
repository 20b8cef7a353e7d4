"""The documentation site builds without a warning, and each address of it that we print leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from airflow_agent_tasks import documentation, errors
from lab.documentation.page_marks import list_error_classes
from tests.documents.code_blocks import ROOT

#: An address of the site in a document or in the package's source.
ADDRESS = re.compile(re.escape(documentation.SITE) + r"[\w/#.-]*")
#: A call that makes one: the package has no other way.
CALL = re.compile(r"""(?<!def )\blink\(\s*f?"([^"]+)"\s*\)""")


class Anchors(HTMLParser):
    """Collects the ids of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids.update(value for name, value in attrs if name == "id" and value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # An advertisement of the theme is no warning about these documents.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr
    return folder


def is_there(site: Path, address: str) -> bool:
    path, _, anchor = address.removeprefix(documentation.SITE).partition("#")
    page = site / path / "index.html" if path.endswith("/") or not path else site / path
    return page.is_file() and (not anchor or anchor in Anchors(page.read_text()).ids)


def find_addresses() -> Iterator[tuple[str, str]]:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.*")]
    sources = [*(ROOT / "airflow_agent_tasks").rglob("*.py"), *(ROOT / "example_dags").glob("*.py")]
    for file in [*documents, *sources, ROOT / "pyproject.toml"]:
        text = file.read_text()
        for address in ADDRESS.findall(text):
            yield str(file.relative_to(ROOT)), address.rstrip(".")
        if file in sources and "import link" in text:
            for page in CALL.findall(text):
                yield str(file.relative_to(ROOT)), documentation.link(page)


def test_each_address_of_the_site_leads_to_a_page_and_a_heading(site: Path) -> None:
    found = list(find_addresses())
    assert [(file, address) for file, address in found if not is_there(site, address)] == []
    assert len({address for _, address in found}) > 10


def test_a_wrong_address_would_be_found(site: Path) -> None:
    assert not is_there(site, documentation.link("reference/no-such-page"))
    assert not is_there(site, documentation.link("reference/errors#no-such-heading"))


@pytest.mark.parametrize("path", ["mkdocs.yml", "README.md"])
def test_the_site_is_where_the_package_says(path: str) -> None:
    assert documentation.SITE in (ROOT / path).read_text()


def test_the_readme_is_short_and_has_no_link_that_a_package_index_could_not_follow() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.split()) < 900
    assert re.findall(r"\]\((?!https://)", readme) == []


@pytest.mark.parametrize("error_class", list_error_classes(), ids=lambda error_class: error_class.__name__)
def test_each_error_prints_the_page_that_explains_it(
    site: Path, error_class: type[errors.AgentTaskError]
) -> None:
    page = documentation.link_error(error_class)
    assert is_there(site, page)
    printed = "".join(traceback.format_exception(error_class("No such argument.")))
    # Python prints notes since 3.11; Airflow shows what Python prints where a DAG file cannot be imported.
    assert printed.endswith(f"See {page}\n") or sys.version_info < (3, 11)
