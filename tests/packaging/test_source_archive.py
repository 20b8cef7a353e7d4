"""The source archive holds all that its own tests need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Collects the tests, and prints their files and where the modules of this checkout came from.
COLLECT = """
import json, sys
import pytest

class Collected:
    def pytest_collection_finish(self, session):
        self.files = sorted({str(item.path.relative_to(session.config.rootpath)) for item in session.items})

collected = Collected()
status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider"], plugins=[collected])
modules = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
folders = ("airflow_agent_tasks", "lab", "tests")
ours = {name: file for name, file in modules.items() if name.split(".")[0] in folders}
print()
print(json.dumps({"status": status, "files": collected.files, "ours": ours}))
"""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist").resolve()
    run("-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (archive,) = folder.glob("*.tar.gz")
    subprocess.run(["tar", "-xzf", archive], cwd=folder, check=True)
    return folder / archive.name.removesuffix(".tar.gz")


def test_its_tests_collect_from_what_it_holds(unpacked: Path) -> None:
    found = json.loads(run("-c", COLLECT, cwd=unpacked).splitlines()[-1])
    assert found["status"] == 0
    assert found["files"] == sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")
    )
    # The virtual environment knows this checkout too.
    elsewhere = {
        name: file for name, file in found["ours"].items() if file and not Path(file).is_relative_to(unpacked)
    }
    assert elsewhere == {}


@pytest.mark.parametrize(
    "path",
    ["Makefile", "constraints.txt", "constraints/shared.txt", "docs/reference/coverage.md", "example_dags"],
)
def test_it_holds_what_the_tests_and_the_make_targets_read(unpacked: Path, path: str) -> None:
    assert (unpacked / path).exists()
