"""The lab's commands: each explains itself, and says at once what it lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from lab import peer_providers
from lab.benchmarks import __main__ as benchmarks
from lab.benchmarks import measure_answer_delay as answers
from lab.cluster import celery, postgresql
from lab.cluster_run import __main__ as cluster_run
from lab.faults import __main__ as faults
from lab.faults.case_run import Outcome
from lab.faults.cases import OUR_CASES
from lab.faults.results_table import describe_verdict

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("airflow_agent_tasks", "example_dags", "lab", "tests")
    for path in (ROOT / folder).rglob("*.py")
]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for path in (ROOT / "lab").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_targets_of_the_makefile_are_commands() -> None:
    named = re.findall(r"-m (lab[\w.]*)", (ROOT / "Makefile").read_text())
    assert len(named) == 15
    assert set(named) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_prints_the_usage_and_does_nothing_else(command: str) -> None:
    done = run("-m", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {command} [-h]")


def test_make_down_needs_no_installed_package() -> None:
    done = run("-S", "-m", "lab.demo.down", "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "arguments", "first_step"),
    [(benchmarks, [], "describe_processors"), (faults, ["--peers"], "run_round")],
    ids=["benchmarks", "faults"],
)
def test_a_comparison_without_the_other_providers_names_the_target_that_installs_them(
    command: Any, arguments: list[str], first_step: str, tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch.object(peer_providers, "PEERS_FOLDER", tmp_path)
    mocker.patch.object(sys, "argv", ["command", *arguments])
    begin = mocker.patch.object(command, first_step)
    with pytest.raises(SystemExit, match="are not installed: run `make peers` first"):
        command.main()
    begin.assert_not_called()


def test_faults_on_postgresql_say_at_once_that_it_is_not_installed(mocker: MockerFixture) -> None:
    mocker.patch.object(sys, "argv", ["command", "--database", "postgresql"])
    mocker.patch.object(postgresql, "find_programs", side_effect=postgresql.PostgresqlError("not installed"))
    begin = mocker.patch.object(faults, "run_round")
    with pytest.raises(SystemExit, match="not installed"):
        faults.main()
    begin.assert_not_called()


@pytest.mark.parametrize(
    ("setups", "failed", "status"),
    [(["local-sqlite", "celery"], 0, 0), (["local-sqlite", "celery"], 1, 1), (["celery"], 0, 1)],
    ids=["the other one ran", "the other one failed", "nothing ran"],
)
def test_answers_on_an_executor_that_is_not_installed_are_not_measured_and_say_why(
    setups: list[str], failed: int, status: int, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    mocker.patch.object(sys, "argv", ["command", *setups, "--tasks", "2", "--questions", "3"])
    mocker.patch.object(celery, "CELERY_FOLDER", ROOT / "missing")
    mocker.patch.object(celery.shutil, "which", return_value=None)
    row = ("local-sqlite", 6, failed, "0.1 / 0.1 / 0.1 / 0.1", "success")
    mocker.patch.object(answers, "run_setup", return_value=row)
    assert answers.main() == status
    printed = capsys.readouterr().out
    assert (
        "celery: not run: The Celery provider and its packages are not installed: run `make celery`."
        in printed
    )
    assert "apt-get install redis-server" in printed


def test_the_cluster_says_what_is_not_installed_and_starts_nothing(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    mocker.patch.object(sys, "argv", ["command"])
    mocker.patch.object(postgresql, "find_programs", side_effect=postgresql.PostgresqlError("no initdb"))
    mocker.patch.object(celery, "CELERY_FOLDER", ROOT / "missing")
    mocker.patch.object(celery.shutil, "which", return_value=None)
    begin = mocker.patch.object(cluster_run, "ClusterRun")
    assert cluster_run.main() == 2
    begin.assert_not_called()
    printed = capsys.readouterr().err.splitlines()
    assert [line.split(" is not ")[0].split(" are not ")[0] for line in printed] == [
        "no initdb",
        "The Celery provider and its packages",
        "redis-server",
        "nginx",
    ]


def test_a_case_whose_rounds_could_not_start_is_not_reported_as_expected() -> None:
    assert describe_verdict(OUR_CASES[0], []) == "NOT RUN"
    assert describe_verdict(OUR_CASES[0], [Outcome()]) == "as expected"


def test_no_source_changes_the_import_path() -> None:
    change = re.compile("sys" + r"\.path\b")
    assert [str(path) for path in SOURCES if change.search(path.read_text())] == []
