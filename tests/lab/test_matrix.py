"""The matrix names every test folder once, leaves no version out, and says why a cell is not run."""

from __future__ import annotations

import re
import sys
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pytest_mock import MockerFixture

from lab.matrix import __main__ as matrix
from lab.matrix import debian_python, environments
from lab.matrix.cells import DATABASES, Cell, explain_skip
from lab.matrix.environments import InstallationError, PythonUnavailableError
from lab.matrix.results_table import print_results_table
from lab.matrix.rings import RINGS, Result, run_ring
from lab.matrix.versions import (
    MAIN_PYTHON,
    OLDEST_PYTHONS,
    find_constraints,
    list_airflow_versions,
    list_pythons,
    read_pinned_airflow,
    release_line,
)

ROOT = Path(__file__).parents[2]
PINNED = read_pinned_airflow()
NEWEST = list_airflow_versions()[-1]
OTHER_AIRFLOWS = [version for version in list_airflow_versions() if version not in (PINNED, NEWEST)]
OTHER_PYTHONS = [version for version in list_pythons() if version != MAIN_PYTHON]
#: What does not depend on the versions: the checkout's commands, pages and archives.
OF_THE_CHECKOUT = {"documents", "lab", "packaging"}
RAN = [
    Cell(*values)
    for values in product(list_airflow_versions(), list_pythons(), DATABASES, RINGS)
    if explain_skip(Cell(*values)) is None
]


def test_every_folder_of_tests_is_in_one_ring() -> None:
    folders = sorted(
        argument.removeprefix("tests/")
        for ring in RINGS.values()
        for argument in ring.command
        if argument.startswith("tests/") and not argument.endswith(".py")
    )
    with_tests = {
        path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")
    }
    assert folders == sorted(with_tests - OF_THE_CHECKOUT)


@pytest.mark.parametrize("airflow", [PINNED, NEWEST])
def test_the_pinned_and_the_newest_airflow_run_in_full(airflow: str) -> None:
    rings = {
        (cell.database, cell.ring) for cell in RAN if (cell.airflow, cell.python) == (airflow, MAIN_PYTHON)
    }
    assert {ring for database, ring in rings if database == "sqlite"} == set(RINGS)
    assert {ring for database, ring in rings if database == "postgresql"} == {
        "airflow",
        "processes",
        "faults",
    }


def test_every_python_runs_with_the_pinned_airflow_and_every_airflow_on_the_main_python() -> None:
    three = {"pure", "wire", "airflow"}
    for python in list_pythons():
        assert {cell.ring for cell in RAN if (cell.airflow, cell.python) == (PINNED, python)} >= three
    for airflow in list_airflow_versions():
        assert {cell.ring for cell in RAN if (cell.airflow, cell.python) == (airflow, MAIN_PYTHON)} >= three


@pytest.mark.parametrize("python", OTHER_PYTHONS)
@pytest.mark.parametrize("airflow", list_airflow_versions())
def test_a_python_that_is_too_old_for_an_airflow_is_left_out_and_says_why(airflow: str, python: str) -> None:
    line = release_line(airflow)
    oldest = OLDEST_PYTHONS.get(line, list_pythons()[0])
    reason = explain_skip(Cell(airflow, python, "sqlite", "pure"))
    is_too_old = Version(python) < Version(oldest)
    assert (reason == f"Airflow {line} needs Python {oldest} or newer") is is_too_old


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (Cell(PINNED, MAIN_PYTHON, "postgresql", "wire"), "its tests use no database"),
        (Cell(PINNED, OTHER_PYTHONS[-1], "sqlite", "faults"), f"Python {MAIN_PYTHON} only"),
        (Cell(PINNED, OTHER_PYTHONS[-1], "postgresql", "airflow"), f"PostgreSQL: Python {MAIN_PYTHON} only"),
    ],
    ids=str,
)
def test_a_cell_that_is_left_out_says_why(cell: Cell, reason: str) -> None:
    assert explain_skip(cell) == reason


@pytest.mark.parametrize("airflow", OTHER_AIRFLOWS)
def test_an_older_airflow_runs_on_the_main_python_and_sqlite_only(airflow: str) -> None:
    versions = f"Airflow {PINNED} and {NEWEST} only"
    newest_python = Cell(airflow, OTHER_PYTHONS[-1], "sqlite", "pure")
    assert explain_skip(newest_python) == f"Pythons but {MAIN_PYTHON}: {versions}"
    on_postgresql = Cell(airflow, MAIN_PYTHON, "postgresql", "airflow")
    assert explain_skip(on_postgresql) == f"PostgreSQL: {versions}"


def test_the_main_python_suits_every_airflow() -> None:
    assert set(OLDEST_PYTHONS) <= {release_line(version) for version in list_airflow_versions()}
    assert all(Version(MAIN_PYTHON) >= Version(oldest) for oldest in OLDEST_PYTHONS.values())


@pytest.mark.parametrize("airflow", list_airflow_versions())
def test_the_pins_of_an_airflow_name_this_one_and_no_package_twice(airflow: str) -> None:
    folder = ROOT / "constraints"
    own, shared = (
        (folder / name).read_text().splitlines() for name in (f"airflow-{airflow}.txt", "shared.txt")
    )
    assert "-c shared.txt" in own
    pins = [Requirement(line) for line in [*own, *shared] if not line.startswith("-c ")]
    assert {pin.name: str(pin.specifier) for pin in pins}["apache-airflow"] == f"=={airflow}"
    assert len({pin.name.lower().replace("_", "-") for pin in pins}) == len(pins)


def test_the_constraints_are_the_pins_of_one_airflow_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    files = (find_constraints(PINNED), ROOT / "constraints" / "shared.txt")
    pins = [line for path in files for line in path.read_text().splitlines() if not line.startswith("-c ")]
    assert lines == pins, f"run: make pins AIRFLOW={PINNED}"
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


@pytest.mark.parametrize(
    ("test", "verdict", "detail"),
    [
        ("def test_one(): pass\ndef test_two(): pass", "passed", "2"),
        ("def test_one(): pass\ndef test_two(): assert False", "FAILED", "1 of 2"),
        ("import pytest\ndef test_one(): pass\ndef test_two(): pytest.skip()", "passed", "1, 1 skipped"),
        ("import a_module_that_does_not_exist", "FAILED", "1 of 1"),
    ],
)
def test_a_ring_counts_its_tests(
    test: str, verdict: str, detail: str, tmp_path: Path, mocker: MockerFixture
) -> None:
    (tmp_path / "test_it.py").write_text(test)
    command = ("-m", "pytest", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path))
    mocker.patch.dict(RINGS, {"pure": mocker.Mock(command=command, has_database=False)})
    result = run_ring("pure", Path(sys.executable), "sqlite", tmp_path / "ring.log")
    assert (result.verdict, result.detail) == (verdict, detail)
    # The output tells which test failed and why: a log on another machine is out of reach.
    assert len(result.failures) == (verdict == "FAILED")
    if "assert False" in test:
        (failure,) = result.failures
        assert failure.startswith("test_it::test_two\n")
        assert "assert False" in failure


def test_a_python_whose_packages_hold_no_loader_is_unavailable(tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(environments, "FOLDER", tmp_path)
    mocker.patch.object(environments, "_uv", side_effect=InstallationError("no such Python"))
    mocker.patch.object(debian_python, "_run", return_value="")
    with pytest.raises(PythonUnavailableError, match=r"Python 3\.99 cannot be installed") as caught:
        environments.find_python("3.99")
    assert "0 dynamic loaders" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (None, 0, "passed (7)"),
        (PythonUnavailableError(f"Python {MAIN_PYTHON} cannot be installed on this machine"), 1, "[a]"),
        (InstallationError("no such package"), 1, "FAILED (installation)"),
    ],
    ids=["passed", "no Python", "no installation"],
)
def test_the_table_and_the_exit_status_tell_the_outcome(
    error: Exception | None,
    status: int,
    expected: str,
    tmp_path: Path,
    mocker: MockerFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--airflow", PINNED, "--python", MAIN_PYTHON, "--database", "sqlite", "--ring", "pure"]
    mocker.patch.object(sys, "argv", ["lab.matrix", *options])
    mocker.patch.object(matrix, "FOLDER", tmp_path)
    mocker.patch.object(matrix, "make_environment", side_effect=error)
    mocker.patch.object(matrix, "run_ring", return_value=Result("passed", "7"))
    assert matrix.main() == status
    printed = capsys.readouterr().out
    assert f"{PINNED} {MAIN_PYTHON} sqlite {expected}" in " ".join(printed.split())
    if isinstance(error, PythonUnavailableError):
        assert f"[a] not run: {error}" in printed


def test_what_failed_is_printed(
    tmp_path: Path, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    mocker.patch.object(matrix, "FOLDER", tmp_path)
    mocker.patch.object(matrix, "make_environment")
    failed = Result("FAILED", "1 of 7", failures=("tests.test_it::test_two\nassert False",))
    mocker.patch.object(matrix, "run_ring", return_value=failed)
    matrix.run_cell(Cell(PINNED, MAIN_PYTHON, "sqlite", "pure"))
    assert "\ntests.test_it::test_two\nassert False\n" in capsys.readouterr().out


def test_a_reason_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [Cell(PINNED, python, "sqlite", "pure") for python in list_pythons()[:3]]
    print_results_table(
        dict(zip(cells, [Result("passed", "7"), *[Result("not run", "why")] * 2], strict=True))
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[2:]] == ["(7)", "[a]", "[a]", "why"]


@pytest.mark.parametrize("option", ["airflow", "python", "database", "ring"])
def test_an_unknown_value_names_the_known_ones(
    option: str, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    mocker.patch.object(sys, "argv", ["lab.matrix", f"--{option}", "2.10"])
    with pytest.raises(SystemExit):
        matrix.main()
    assert f"--{option}: 2.10 is not one of " in capsys.readouterr().err


def test_the_newest_airflow_has_a_name(mocker: MockerFixture) -> None:
    mocker.patch.object(sys, "argv", ["lab.matrix", "--airflow", "newest"])
    assert matrix.parse_arguments().airflow == [NEWEST]
