"""The addresses in the project's files lead somewhere, and SECURITY.md names code that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify

from airflow_agent_tasks.documentation import SITE

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/airflow-agent-tasks/airflow-agent-tasks"
PACKAGE = ROOT / "airflow_agent_tasks"
FILES = sorted(
    path
    for pattern in ("*.md", "*.toml", "docs/**/*.md", ".github/**/*.*", "airflow_agent_tasks/**/*.py")
    for path in ROOT.glob(pattern)
)
PAGE = re.compile(re.escape(SITE) + r"([\w/-]*)(?:#([\w-]+))?")
FILE = re.compile(re.escape(REPOSITORY) + r"/(?:blob|tree)/main/([\w./-]+)")


def list_anchors(page: Path) -> set[str]:
    text = page.read_text()
    if included := re.match(r'--8<-- "(.+)"', text):
        text = (ROOT / included[1]).read_text()
    return {slugify(heading, "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def find_fault(page: str, anchor: str) -> str:
    """Return what is wrong with an address of the site, or an empty text."""
    path = ROOT / "docs" / f"{page.rstrip('/') or 'index'}.md"
    if not path.exists() or (page and not page.endswith("/")):
        return "no such page"
    return "no such heading" if anchor and anchor not in list_anchors(path) else ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_address_of_this_project_leads_somewhere(file: Path) -> None:
    text = file.read_text()
    faults = {found[0]: fault for found in PAGE.finditer(text) if (fault := find_fault(found[1], found[2]))}
    assert faults == {}
    assert [path for path in FILE.findall(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("page", "anchor", "fault"),
    [
        ("", "", ""),
        ("reference/versions/", "add-a-version", ""),
        ("reference/versions/", "add-a-planet", "no such heading"),
        ("reference/versions", "", "no such page"),  # Read the Docs redirects, at the cost of the anchor
        ("reference/planets/", "", "no such page"),
    ],
)
def test_a_wrong_address_is_found(page: str, anchor: str, fault: str) -> None:
    assert find_fault(page, anchor) == fault


def test_the_metadata_has_the_addresses_of_the_site_and_the_repository() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert {name for name, url in urls.items() if url.startswith(SITE)} == {"Documentation", "Changelog"}
    assert {name for name, url in urls.items() if url.startswith(REPOSITORY)} == {"Source", "Issues"}
    site = (ROOT / "mkdocs.yml").read_text()
    assert f"\nsite_url: {SITE}\n" in site
    assert f"\nrepo_url: {REPOSITORY}\n" in site


def test_the_security_page_names_code_that_exists() -> None:
    # `client/redaction.py`, `text.quote_lines`, `services/http.is_usable_id`
    named = re.findall(r"`([a-z_/]+)\.(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 10
    missing = [
        f"{module}.{name}"
        for module, name in named
        if not (path := PACKAGE / f"{module}.py").exists()
        or not (name == "py" or re.search(rf"^(def )?{name}\b", path.read_text(), re.MULTILINE))
    ]
    assert [name for name in missing if not name.startswith("lab.")] == []
