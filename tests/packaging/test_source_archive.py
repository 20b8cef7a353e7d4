"""The source archive holds all that its own tests need."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run("build", "--sdist", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def test_its_tests_collect(unpacked: Path) -> None:
    collected = run("pytest", "--collect-only", "-p", "no:cacheprovider", cwd=unpacked)
    files = {line.partition("::")[0] for line in collected.splitlines() if "::" in line}
    assert files == {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}


def test_its_make_targets_find_what_they_run(unpacked: Path) -> None:
    for path in ("Makefile", "constraints.txt", "lab/demo/__main__.py", "example_dags"):
        assert (unpacked / path).exists(), path
