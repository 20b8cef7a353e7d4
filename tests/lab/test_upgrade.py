"""The rehearsed upgrade: each of its cases has a name, and it refuses an Airflow that is not newer."""

from __future__ import annotations

import sys

import pytest
from pytest_mock import MockerFixture

from lab.cluster.installed_airflow import INSTALLED
from lab.upgrade import __main__ as upgrade
from lab.upgrade.cases import SCENARIOS


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for scenario in SCENARIOS for case in scenario.cases]
    assert len(set(names)) == len(names)


def test_the_same_airflow_is_refused_at_once(mocker: MockerFixture) -> None:
    mocker.patch.object(sys, "argv", ["command", "--to", sys.executable])
    begin = mocker.patch.object(upgrade, "Round")
    with pytest.raises(SystemExit, match=f"Airflow {INSTALLED} of .* is not newer than {INSTALLED}"):
        upgrade.main()
    begin.assert_not_called()


def test_a_python_without_an_airflow_is_refused_at_once(mocker: MockerFixture) -> None:
    mocker.patch.object(sys, "argv", ["command", "--to", "/usr/bin/env"])
    begin = mocker.patch.object(upgrade, "Round")
    with pytest.raises(SystemExit, match="/usr/bin/env has no Airflow"):
        upgrade.main()
    begin.assert_not_called()
