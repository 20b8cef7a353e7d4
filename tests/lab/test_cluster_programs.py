"""The programs of a cluster's home: started there, found again by others, and ended with all they started."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cluster.cluster_programs import ClusterError, ClusterPrograms
from lab.cluster.processes import is_running, wait_until
from lab.cluster.state_file import read_cluster_state

WAITING = ["sh", "-c", "echo begun; sleep 60"]


def test_a_program_runs_with_a_log_and_ends_with_its_cluster(programs: ClusterPrograms) -> None:
    program = programs.start_program("waiting", WAITING)
    assert wait_until(lambda: program.log_path.read_text() == "begun\n", timeout=20)
    programs.check_programs()
    programs.stop(grace=0)
    assert not is_running(program.leader)
    assert programs.programs == {}


def test_a_program_that_exits_is_an_error_with_the_end_of_its_log(programs: ClusterPrograms) -> None:
    program = programs.start_program("failing", ["sh", "-c", "echo no such port; exit 3"])
    assert program.wait(timeout=20) == 3
    with pytest.raises(ClusterError, match=r"(?s)failing ended with exit status 3.*no such port"):
        programs.check_programs()
    programs.stop_program("failing", grace=0)
    programs.check_programs()


def test_the_home_of_a_cluster_that_runs_is_refused_until_it_is_ended(programs: ClusterPrograms) -> None:
    program = programs.start_program("waiting", WAITING)
    programs.leave_running()
    other = ClusterPrograms(programs.home, programs.environment)
    with pytest.raises(ClusterError, match="a running cluster uses"):
        other.prepare()
    state = read_cluster_state(programs.home)
    assert state
    state.end_programs()
    assert not is_running(program.leader)
    other.prepare()
    assert not program.log_path.exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("…")
    with pytest.raises(ClusterError, match="holds something other than a cluster"):
        ClusterPrograms(tmp_path, {}).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
