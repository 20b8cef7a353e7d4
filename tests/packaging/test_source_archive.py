"""The source archive is enough to test the package, to build its site, and to build it again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.matrix.rings import RINGS

ROOT = Path(__file__).parents[2]
#: The tests of the pure ring that vary what others cover already: two thirds of its time.
REPETITIONS = (
    "pair_of_crashes or interruption or kill_whose or planted or of_a_try_that_was_lost or on_its_first_level"
)

#: Runs pytest, and prints the files of the tests and where the modules of this checkout came from.
RUN_PYTEST = """
import json, sys
import pytest

class Seen:
    files, ran = (), 0

    def pytest_collection_finish(self, session):
        self.files = sorted({str(item.path.relative_to(session.config.rootpath)) for item in session.items})

    def pytest_runtest_logreport(self, report):
        self.ran += report.when == "call" and report.passed

seen = Seen()
status = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[seen])
modules = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
folders = ("airflow_agent_tasks", "lab", "tests")
ours = {name: file for name, file in modules.items() if name.split(".")[0] in folders}
print()
print(json.dumps({"status": status, "files": seen.files, "ran": seen.ran, "ours": ours}))
sys.exit(status)
"""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
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


def run_its_tests(unpacked: Path, *arguments: str) -> dict[str, Any]:
    """Run pytest in the archive's folder; fails for a module of ours from elsewhere."""
    seen: dict[str, Any] = json.loads(run("-c", RUN_PYTEST, *arguments, cwd=unpacked).splitlines()[-1])
    # The virtual environment knows this checkout too.
    elsewhere = {
        name: file for name, file in seen["ours"].items() if file and not Path(file).is_relative_to(unpacked)
    }
    assert elsewhere == {}
    return seen


def test_it_holds_every_file_of_the_checkout(unpacked: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [path for path in listed.stdout.splitlines() if (ROOT / path).exists()]
    assert [path for path in files if not (unpacked / path).exists()] == []


def test_its_tests_collect_from_what_it_holds(unpacked: Path) -> None:
    assert run_its_tests(unpacked, "--collect-only")["files"] == sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")
    )


def test_its_pure_tests_pass(unpacked: Path) -> None:
    paths = [argument for argument in RINGS["pure"].command if argument.startswith("tests/")]
    seen = run_its_tests(unpacked, *paths, "-k", f"not ({REPETITIONS})")
    # Not nearly none, as after a change of a name above.
    assert seen["ran"] > 1_000


def test_it_builds_the_site(unpacked: Path) -> None:
    run("-m", "mkdocs", "--quiet", "build", "--strict", "--site-dir", "site", cwd=unpacked)
    assert (unpacked / "site/index.html").exists()


def test_it_builds_the_same_archive_again(unpacked: Path, tmp_path: Path) -> None:
    run("-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), cwd=unpacked)
    (first,) = unpacked.parent.glob("*.tar.gz")
    (again,) = tmp_path.glob("*.tar.gz")
    assert again.read_bytes() == first.read_bytes()
