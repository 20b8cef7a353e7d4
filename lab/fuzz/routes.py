"""
``python -m lab.fuzz.routes``: send thousands of generated requests to a real API server, and look for faults.

It sends requests without a valid key, malformed signed orders, answers, requests for paths that do not exist,
and hangs up, while agent tasks run, wait, and are parked at a question. A fault is a 500, a traceback
in the server's log, a request without a response, or a response whose content or time reveals to a stranger
whether a task exists. Exits with 0 only if there are no faults. Takes two minutes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from airflow_agent_tasks.airflow_compat.required_action import PATH
from lab.cluster.airflow_api import TaskInstance
from lab.cluster.airflow_cluster import AirflowCluster
from lab.command_line import build_parser, log_progress, print_table, run_command
from lab.fuzz.route_cluster import run_cluster
from lab.fuzz.route_requests import Generator, Place, Probe, build_request

COUNT = 3_000
SEED = 20_260_504
#: Number of concurrent requests.
CONCURRENT = 8
#: Seconds for a response.
TIMEOUT = 30.0
#: Pairs of requests whose times are compared, and the allowed difference: milliseconds between the medians,
#: and standard deviations of the rank sum.
PAIRS = 300
MAX_MEDIAN_DIFFERENCE = 3.0
MAX_RANK_DEVIATION = 4.0
HEADINGS = ("requests", "count", "statuses", "faults")


@dataclass
class Findings:
    """The responses to the requests of one kind."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def run(count: int = COUNT, seed: int = SEED) -> int:
    """
    Send the requests, print the table and return the number of faults.

    :param count: The number of requests, besides those whose time is measured.
    :param seed: The same seed generates the same requests.
    """
    log_progress("Starting Airflow (about 45 s) ...")
    with run_cluster() as (cluster, user, tasks, _):
        existing, missing = [describe(task) for task in tasks], list(map(describe_missing, tasks))
        generator = Generator(seed, cluster.environment["AIRFLOW__API__SECRET_KEY"], user, existing, missing)
        log_progress(f"Sending {count} requests (seed {seed}) ...")
        findings = asyncio.run(send_all(cluster, list(generator.generate(count))))
        log_progress(f"Comparing the times of {2 * PAIRS} requests of strangers ...")
        findings |= asyncio.run(compare_times(cluster, existing, missing))
        log = (cluster.log_folder / "api-server.log").read_text(errors="replace")
    tracebacks = log.count("Traceback (most recent call last)")
    findings["the server's log"] = Findings(Counter({"tracebacks": tracebacks}), ["traceback"] * tracebacks)
    return print_findings(findings)


def describe(task: TaskInstance) -> Place:
    """Return the place of a task that exists."""
    run_path = f"/api/v2/dags/{task.dag_id}/dagRuns/{quote(task.run_id, safe='')}"
    path = f"{run_path}/taskInstances/{task.task_id}/{task.map_index}/hitlDetails"
    return Place(task.instance_id, path)


def describe_missing(task: TaskInstance) -> Place:
    """Return the place of a task that does not exist, with a path and an id of the same lengths."""
    place = describe(task)
    missing_id = task.instance_id[:-6] + ("000000" if task.instance_id[-6:] != "000000" else "111111")
    return Place(missing_id, place.answer_path.replace(f"/{task.task_id}/", f"/{task.task_id[::-1]}/"))


async def send_all(cluster: AirflowCluster, probes: list[Probe]) -> dict[str, Findings]:
    """Send all requests, a few at the same time, and return the findings by kind."""
    findings: dict[str, Findings] = defaultdict(Findings)
    groups: dict[str, tuple[str, list[bytes], bytes]] = {}
    turns = asyncio.Semaphore(CONCURRENT)

    async def send_one(probe: Probe) -> None:
        async with turns:
            response = await send(cluster, probe.data, hangs_up=probe.hangs_up)
        found, status = findings[probe.kind], read_status(response)
        found.statuses[status or ("none" if probe.hangs_up else "no response")] += 1
        if probe.hangs_up:
            return
        if not status or (status.startswith("5") and status != "503"):
            found.faults.append(f"{status or 'no response'} to {probe.data[:200]!r}")
        answer = (status, *split_response(response))
        if probe.group and groups.setdefault(probe.group, answer) != answer:
            found.faults.append(f"{probe.group[:60]}: {answer} and {groups[probe.group]}")

    await asyncio.gather(*(send_one(probe) for probe in probes))
    return dict(findings)


async def send(cluster: AirflowCluster, data: bytes, *, hangs_up: bool = False) -> bytes:
    """Send bytes to the API server, and return its whole response; empty if there is none."""
    address = urlsplit(cluster.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        with suppress(OSError, asyncio.TimeoutError):
            writer.write(data)
            if hangs_up:
                await writer.drain()
                return b""
            return await asyncio.wait_for(read_response(reader), TIMEOUT)
        return b""
    finally:
        writer.transport.abort()


async def read_response(reader: asyncio.StreamReader) -> bytes:
    """Return a response, even if the server resets the connection after sending it."""
    received = b""
    with suppress(OSError):
        while piece := await reader.read(64 * 1024):
            received += piece
            if received.startswith(b"HTTP/1.1 101"):
                break
    return received


def read_status(response: bytes) -> str:
    """Return the status of a response, or an empty string."""
    words = response.split(b" ", 2)
    return words[1].decode("latin-1") if len(words) > 2 else ""


def split_response(response: bytes) -> tuple[list[bytes], bytes]:
    """Return the headers of a response but its date, and its body."""
    head, _, body = response.partition(b"\r\n\r\n")
    return sorted(line for line in head.split(b"\r\n")[1:] if not line.lower().startswith(b"date:")), body


async def compare_times(
    cluster: AirflowCluster, existing: list[Place], missing: list[Place]
) -> dict[str, Findings]:
    """Compare the response times for a task that exists and one that does not, without a valid key."""
    wrong = "Authorization: Bearer x"
    answer = '{"chosen_options": ["Send"], "params_input": {"reply": "Yes."}}'

    def build_answer(place: Place) -> bytes:
        return build_request("PATCH", place.answer_path, answer, wrong)

    def build_order(place: Place) -> bytes:
        order = json.dumps({"do": "read", "task_instance_id": place.instance_id, "form_id": None})
        return build_request("POST", PATH, order, wrong)

    found = {}
    for name, build in (("times of answers", build_answer), ("times of orders", build_order)):
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(2 * PAIRS):
            # Alternating, so that other load on the machine affects both equally.
            which = (number + number // 2) % 2
            place = (existing, missing)[which][number // 2 % len(existing)]
            began = time.perf_counter()
            await send(cluster, build(place))
            times[which].append((time.perf_counter() - began) * 1000)
        found[name] = judge_times(*times)
    return found


def judge_times(first: list[float], second: list[float]) -> Findings:
    """Judge the difference of the medians in milliseconds, and of the ranks in standard deviations."""
    medians = statistics.median(first), statistics.median(second)
    deviation = compute_rank_deviation(first, second)
    seen = f"{medians[0]:.2f} and {medians[1]:.2f} ms, ranks {deviation:+.1f} deviations apart"
    differs = abs(medians[0] - medians[1]) > MAX_MEDIAN_DIFFERENCE or abs(deviation) > MAX_RANK_DEVIATION
    return Findings(Counter({seen: len(first) + len(second)}), [seen] if differs else [])


def compute_rank_deviation(first: list[float], second: list[float]) -> float:
    """Return how many standard deviations the rank sum is from its expected value (Mann-Whitney)."""
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    ranks = sum(rank for rank, (_, group) in enumerate(ranked, 1) if group == 0)
    n, m = len(first), len(second)
    expected, variance = n * (n + m + 1) / 2, n * m * (n + m + 1) / 12
    return float((ranks - expected) / variance**0.5)


def print_findings(findings: dict[str, Findings]) -> int:
    """Print the table and up to five faults of each kind, and return the number of faults."""
    rows = []
    for kind, found in sorted(findings.items()):
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(found.statuses.items()))
        rows.append((kind, found.statuses.total(), statuses, len(found.faults)))
    print()
    print_table(HEADINGS, rows, limit=80)
    for kind, found in findings.items():
        for fault in found.faults[:5]:
            print(f"{kind}: {fault[:600]}")
    return sum(len(found.faults) for found in findings.values())


def main() -> int:
    """Parse the command line, run, and return the exit status."""
    parser = build_parser("lab.fuzz.routes", __doc__)
    parser.add_argument("--count", type=int, default=COUNT, help=f"number of requests; default {COUNT}")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the requests; default {SEED}")
    arguments = parser.parse_args()
    return 1 if run(arguments.count, arguments.seed) else 0


if __name__ == "__main__":
    run_command(main)
