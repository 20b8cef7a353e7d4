"""
Measures what reading a stream of 10,000 events with deltas costs on a worker, part of ``make bench``.

A server in this process sends one event after the other, with a pause that lets the reader take each alone,
as an agent's words arrive. Each reader runs in a new process, and measures its CPU, and its peak memory above
the start. Targets for ours: 2 s of CPU and 16 MiB.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.services.event_text import SentenceJoiner
from airflow_agent_tasks.services.stream_events import read_event
from airflow_agent_tasks.services.transcript import Transcript
from lab.command_line import build_parser, print_table, run_command
from lab.paths import ROOT

EVENTS = 10_000
STEPS = 100
#: Seconds between two events.
PAUSE = 0.0005
KEY = "sk_bench_0123456789"
MOST_CPU_SECONDS, MOST_MIB = 2.0, 16.0
HEADINGS = ("", "events", "CPU seconds", "CPU µs per event", "peak MiB above the start")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LARGEST_REQUEST = 64 * 1024
#: Linux counts the peak of the resident memory anew when this is written.
_CLEAR_PEAK = (Path("/proc/self/clear_refs"), "5")


def main() -> int:
    """Print the table, or the figures of one reader; return 1 if ours misses its target."""
    parser = build_parser("lab.benchmarks.measure_streaming", __doc__)
    parser.add_argument("--read", nargs=2, metavar=("READER", "URL"), help="only read, and print JSON")
    arguments = parser.parse_args()
    if arguments.read:
        name, url = arguments.read
        print(json.dumps(read(name, url)))
        return 0
    rows = measure()
    print_table(HEADINGS, rows)
    cpu, memory = rows[0][2], rows[0][4]
    return int(float(cpu) > MOST_CPU_SECONDS or float(memory) > MOST_MIB)


def measure() -> list[tuple[str, ...]]:
    """Let each reader read the stream; return the rows of the table, ours first."""
    rows: list[tuple[str, ...]] = []
    with serve() as url:
        for title in READERS:
            command = [sys.executable, "-m", "lab.benchmarks.measure_streaming", "--read", title, url]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: S603
            one = json.loads(result.stdout.splitlines()[-1])
            microseconds = 1e6 * one["cpu"] / one["events"]
            figures = (f"{one['events']:,}", f"{one['cpu']:.2f}", f"{microseconds:.0f}", f"{one['mib']:.1f}")
            rows.append((title, *figures))
    return rows


def read(name: str, url: str) -> dict[str, float]:
    """Read a stream in this process, and return its number of events, CPU seconds and peak MiB."""
    connection = {"conn_type": "lightcone", "host": url, "password": KEY}
    os.environ["AIRFLOW_CONN_LIGHTCONE_DEFAULT"] = json.dumps(connection)
    consume = READERS[name]
    for _ in consume(f"{url}/short"):  # imports everything
        pass
    path, word = _CLEAR_PEAK
    if path.exists():
        path.write_text(word)
    memory, cpu = _read_peak(), time.process_time()
    events = sum(1 for _ in consume(url))
    cpu = time.process_time() - cpu
    if events != EVENTS:
        raise SystemExit(f"{name} read {events} of {EVENTS} events")
    return {"events": events, "cpu": cpu, "mib": _read_peak() - memory}


def _read_everything(url: str) -> Iterator[Any]:
    # What an operator does with each event, except for its log.
    dialect, joiner, transcript, task_id = LightconeHook.dialect, SentenceJoiner(), Transcript(), None
    for event in _read_with_hook(url):
        found = read_event(event, dialect, task_id=task_id)
        task_id = task_id or found.task_id
        yield joiner.add(found.delta), found.line
        transcript.add(event)
    joiner.flush()
    transcript.to_json()


def _read_with_hook(url: str) -> Iterable[Any]:
    hook = LightconeHook()
    return hook.stream_task(instruction="short" if url.endswith("/short") else "long")


def _read_with_sdk(url: str) -> Iterable[Any]:
    from tzafon import Lightcone

    instruction = "short" if url.endswith("/short") else "long"
    client = Lightcone(base_url=url.removesuffix("/short"), api_key=KEY)
    return client.agent.tasks.start_stream(instruction=instruction)


READERS: dict[str, Callable[[str], Iterable[Any]]] = {
    "ours: read, described, joined, kept": _read_everything,
    "ours: stream_task of the hook alone": _read_with_hook,
    "official SDK (tzafon)": _read_with_sdk,
}


def _read_peak() -> float:
    """Return the peak of this process's resident memory, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@contextmanager
def serve() -> Iterator[str]:
    """Serve the stream on a free port, and yield the service's address."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Stream) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Stream(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        request = b""
        while b'"instruction"' not in request:
            request += self.request.recv(_LARGEST_REQUEST)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.sendall(_HEAD)
        for event in _list_events(10 if b'"short"' in request else EVENTS):
            frame = b"data: " + json.dumps(event).encode() + b"\n\n"
            self.request.sendall(b"%x\r\n%s\r\n" % (len(frame), frame))
            time.sleep(PAUSE)
        self.request.sendall(b"0\r\n\r\n")


def _list_events(count: int) -> Iterator[dict[str, Any]]:
    """Yield progress updates with deltas, a new step after every hundred, and a completion."""
    for number in range(count - 1):
        yield {
            "type": "progress_update",
            "task_id": "tsk_benchmark",
            "status": "running",
            "current_step": f"Step {number * STEPS // count}",
            "steps_completed": number * STEPS // count,
            "total_steps": STEPS,
            **({"delta": f"word{number} "} if number % STEPS else {}),
        }
    yield {"type": "completion", "task_id": "tsk_benchmark", "status": "completed", "exit_code": 0}


if __name__ == "__main__":
    run_command(main)
