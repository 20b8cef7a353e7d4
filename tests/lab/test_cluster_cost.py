"""The run on two of each component: what a task costs, from logs and from the process table."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from uuid import UUID

import pytest

from lab.cluster.connections import count_connections
from lab.cluster.cpu_time import read_cpu_seconds
from lab.cluster.nginx import count_requests
from lab.cluster_run.cost import Cost
from lab.cluster_run.report import describe_numbers, list_cpu_rows, list_slot_row, print_verdict
from lab.cluster_run.slots import SlotTimes, count_open_executions, read_slot_times
from lab.cluster_run.verdict import Bounds, Verdict

FIRST, RESUME, OTHER = (str(UUID(int=number)) for number in (1, 2, 3))
TASK, OTHER_TASK = (str(UUID(int=number)) for number in (11, 12))


def log_start(moment: str, execution: str, task: str, run_id: str) -> str:
    return (
        f"2026-11-30T{moment}Z [info     ] [{execution}] Executing workload in Celery: "
        f"dag_rel_path=PurePosixPath('agents.py') ti=TaskInstanceDTO(id=UUID('{task}'), task_id='shinzo', "
        f"dag_id='agents', run_id='{run_id}', try_number=1, dag_version_id=UUID('{UUID(int=99)}'))"
    )


def log_end(execution: str, seconds: float) -> str:
    return (
        f"2026-11-30T19:00:00.000000Z [info     ] Task execute_workload[{execution}] succeeded in "
        f"{seconds}s: None [celery.app.trace] loc=trace.py:128"
    )


#: The resume ran on another worker, whose log comes first.
LOG = [
    log_start("10:00:20.000000", RESUME, TASK, "run_1"),
    log_end(RESUME, 1.25),
    "2026-11-30T10:00:00.000000Z [info     ] celery@worker ready.  [celery.apps.worker]",
    log_start("10:00:01.000000", FIRST, TASK, "run_1"),
    log_start("10:00:02.000000", OTHER, OTHER_TASK, "run_2"),
    log_end(FIRST, 5.5),
]


def test_the_first_execution_of_a_task_is_told_from_its_resumes() -> None:
    assert read_slot_times(LOG) == {"run_1": SlotTimes([5.5], [1.25])}
    assert read_slot_times([*LOG, log_end(OTHER, 2.0)])["run_2"] == SlotTimes([2.0], [])


def test_an_execution_is_open_until_its_end_is_in_the_log() -> None:
    assert count_open_executions(LOG) == 1
    assert count_open_executions([*LOG, log_end(OTHER, 2.0)]) == 0


def test_requests_for_different_tasks_are_the_same_request() -> None:
    run = "manual__2026-11-30T19:11:15.425685+00:00"
    lines = [
        f"200 PATCH /execution/task-instances/{TASK}/run\n",
        f"409 PATCH /execution/task-instances/{OTHER_TASK}/run\n",
        f"201 POST /execution/xcoms/agents/{run}/shinzo/status\n",
        f"201 POST /execution/xcoms/agents/{run}/lightcone/status\n",
        "200 POST /api/v2/dags/agents/dagRuns\n",
    ]
    assert count_requests(lines) == {
        "PATCH /execution/task-instances/{id}/run": 2,
        "POST /execution/xcoms/{dag}/{run}/{task}/status": 2,
        "POST /api/v2/dags/{dag}/dagRuns": 1,
    }


COMPUTE = "import time\nwhile time.process_time() < 0.3: pass\n"
#: A program that has waited for one child, and whose other child has a session of its own.
PARENT = f"""
import subprocess, sys
compute = {COMPUTE!r}
subprocess.run([sys.executable, "-c", compute])
subprocess.Popen([sys.executable, "-c", compute + "print(flush=True); input()"], start_new_session=True)
input()
"""


def test_the_cpu_time_of_a_program_includes_its_children_also_after_their_exit() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as program:
        assert program.stdout
        assert program.stdin
        program.stdout.readline()
        seconds = read_cpu_seconds([program.pid])[program.pid]
        program.stdin.close()
    # The kernel counts in ticks of a hundredth of a second.
    assert seconds >= 0.55


def test_a_program_that_has_ended_has_no_cpu_time() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as program:
        program.wait()
    assert read_cpu_seconds([program.pid]) == {program.pid: 0.0}


CONNECT_AND_FORK = """
import os, socket, sys
connections = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(2)]
child = os.fork()
print(flush=True)
sys.stdin.read()
"""


def test_connections_are_counted_once_though_a_forked_child_has_them_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [sys.executable, "-c", CONNECT_AND_FORK, str(port)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as program:
            assert program.stdin
            assert program.stdout
            # One line each of the parent and of the child.
            assert program.stdout.read(2) == b"\n\n"
            own = socket.create_connection(("127.0.0.1", port))
            counts = count_connections(port, [program.pid]), count_connections(port + 1, [program.pid])
            own.close()
            program.stdin.close()
    assert counts == ({program.pid: 2}, {})


def test_the_row_of_all_of_airflow_is_the_sum_of_its_components_per_task() -> None:
    agents = Cost(tasks=4, cpu={"worker": 4.0, "scheduler": 1.0, "redis": 8.0, **NOTHING})
    sleepers = Cost(tasks=2, cpu={"worker": 1.0, "scheduler": 0.5, "redis": 0.0, **NOTHING})
    rows = {row[0]: row[1:] for row in list_cpu_rows(agents, sleepers)}
    assert rows["worker"] == ("1.00", "0.50", "2.00")
    assert rows["**all of Airflow**"] == ("1.25", "0.75", "1.67")
    assert rows["redis"] == ("2.00", "0.00", "-")


NOTHING = dict.fromkeys(("api-server", "triggerer", "dag-processor", "postgresql", "nginx"), 0.0)


def test_slots_are_compared_by_their_medians() -> None:
    row = list_slot_row("resume", [1.0, 3.0, 9.0], [1.0, 2.0, 2.0], 5.0)
    assert row == (
        "resume",
        "3.00",
        "2.00",
        "1.50",
        "4.3, 3.0 / 9.0 / 9.0, 33%, 3.0",
        "1.7, 2.0 / 2.0 / 2.0, 0%, 2.0",
    )


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], "0"),
        ([4, 7], "2 (tasks 4, 7)"),
        (list(range(11)), "11 (tasks 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 …)"),
    ],
)
def test_what_went_wrong_is_counted_and_named(numbers: list[int], text: str) -> None:
    assert describe_numbers(numbers) == text


def test_the_table_counts_the_responses_with_429(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = Verdict(
        Bounds(limit=25, uncertain=8, disturbances=12, failures={"429": 3, "None": 40}),
        submitted=61,
        duplicates=[8],
        most_at_once={"lightcone": 25, "shinzo": 24},
        disturbances=11,
        responses=Counter({"200": 5, "429": 3, "None": 41}),
    )
    print_verdict("Kills", 60, verdict)
    printed = capsys.readouterr().out
    assert printed.startswith("### Kills\n\n| what | count |\n| --- | --- |\n| Airflow tasks | 60 |\n")
    assert "| duplicates | 1 (tasks 8) |" in printed
    assert "| most agents of lightcone at once, limit 25 | 25 |" in printed
    assert "| most agents of shinzo at once, limit 25 | 24 |" in printed
    assert "| failed, because Shinzo's start was uncertain, at most 8 | 0 |" in printed
    assert "| kills and outages, planned 12 | 11 |" in printed
    assert "| requests answered with 429, planned 3 | 3 |" in printed
    assert "| requests without a response, planned 40 | 41 |" in printed


def test_the_table_says_that_there_was_no_limit(capsys: pytest.CaptureFixture[str]) -> None:
    print_verdict("Measured", 60, Verdict(submitted=60, most_at_once={"shinzo": 30}))
    assert "| most agents of shinzo at once, no limit | 30 |" in capsys.readouterr().out
