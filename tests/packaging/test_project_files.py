"""The project's files name addresses and code that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_agent_tasks.documentation import SITE

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/airflow-agent-tasks/airflow-agent-tasks"
FILES = sorted(path for pattern in ("*.md", "docs/**/*.md", ".github/**/*.*") for path in ROOT.glob(pattern))
#: Code in SECURITY.md: `client/redaction.py`, `text.quote_lines`, `services/http.is_usable_id`.
CODE = re.compile(r"`([a-z_/]+)\.([A-Za-z_]+)`")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_link_to_a_file_in_the_repository_leads_somewhere(file: Path) -> None:
    linked = re.findall(re.escape(REPOSITORY) + r"/(?:blob|tree)/main/([\w./-]+)", file.read_text())
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_the_metadata_has_the_addresses_of_the_site_and_the_repository() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert {name for name, url in urls.items() if url.startswith(SITE)} == {"Documentation", "Changelog"}
    assert {name for name, url in urls.items() if url.startswith(REPOSITORY)} == {"Source", "Issues"}
    assert f"\nrepo_url: {REPOSITORY}\n" in (ROOT / "mkdocs.yml").read_text()


def is_in_package(module: str, name: str) -> bool:
    path = ROOT / "airflow_agent_tasks" / f"{module}.py"
    return path.exists() and (
        name == "py" or bool(re.search(rf"^(def )?{name}\b", path.read_text(), re.MULTILINE))
    )


def test_the_security_page_names_code_that_exists() -> None:
    named = CODE.findall((ROOT / "SECURITY.md").read_text())
    assert len(named) > 10
    assert [f"{module}.{name}" for module, name in named if not is_in_package(module, name)] == []
    assert not is_in_package("text", "no_such_name")
    assert not is_in_package("client/no_such_module", "py")
