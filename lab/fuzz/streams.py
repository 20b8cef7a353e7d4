"""
Reads hundreds of generated event streams as a worker does.

    python -m lab.fuzz.streams [--count 500] [--seed 1]

Counts faults: an exception that is not an AgentTaskError, a secret in what is logged or stored, a line or a
transcript that is too long, and a stream that takes too much CPU for its size.
"""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Iterator

from airflow_agent_tasks.client.redaction import Redactor
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.services.event_stream import EventStreamParser
from airflow_agent_tasks.services.event_text import MAX_LINE, SentenceJoiner
from airflow_agent_tasks.services.stream_events import read_event
from airflow_agent_tasks.services.transcript import MAX_TRANSCRIPT_BYTES, Transcript
from airflow_agent_tasks.text import shorten
from lab.command_line import build_parser, print_table, run_command
from lab.fuzz.generated_replies import KEY, PROXY_PASSWORD, generate_stream
from lab.fuzz.leaks import is_leaked

#: CPU seconds that a stream may take, and more for each megabyte of it.
SECONDS, SECONDS_PER_MB = 0.5, 1.5
#: Larger texts are not searched for secrets: that would take longer than all else.
LARGEST_SEARCHED = 200_000


def read_stream(chunks: list[bytes]) -> Iterator[str]:
    """Read a stream; yield each text that would be logged or stored, and raise ValueError for a bad one."""
    redactor = Redactor(KEY, f"http://user:{PROXY_PASSWORD.replace('/', '%2F')}@proxy")
    parser = EventStreamParser(redactor.redact)
    joiner, transcript, screenshots = SentenceJoiner(redactor.redact), Transcript(), 0
    for chunk in redactor.redact_chunks(chunks):
        for event in parser.feed(chunk):
            found = read_event(event, LightconeHook.dialect, task_id="t1", screenshots=screenshots)
            screenshots += found.screenshots
            transcript.add(event)
            for line in [*joiner.add(found.delta), *([found.line] if found.line is not None else [])]:
                if not line or shorten(line, MAX_LINE) != line:
                    raise ValueError(f"not a line: {line!r}")
                yield line
            yield found.kind
            if found.task:
                yield json.dumps(found.task.to_json(), ensure_ascii=False)
    yield from joiner.flush()
    stored = json.dumps(transcript.to_json())
    if len(stored) > MAX_TRANSCRIPT_BYTES:
        raise ValueError(f"a transcript of {len(stored)} bytes")
    yield json.dumps(transcript.to_json(), ensure_ascii=False)


def run(count: int, seed: int) -> int:
    """Read ``count`` streams; print the faults, and return their number."""
    faults: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        chunks = generate_stream(seed, number)
        begun = time.process_time()
        texts: list[str] = []
        try:
            texts.extend(read_stream(chunks))
        except AgentTaskError as error:
            texts.append(str(error))
        except Exception:
            faults["exceptions"] += 1
            print(f"stream {number}: {traceback.format_exc()[-600:]}")
        seconds = time.process_time() - begun
        slowest = max(slowest, seconds)
        if seconds > SECONDS + SECONDS_PER_MB * sum(map(len, chunks)) / 1e6:
            faults["slow streams"] += 1
            print(f"stream {number}: {seconds:.1f} s for {sum(map(len, chunks))} bytes")
        for text in texts:
            if len(text) < LARGEST_SEARCHED and is_leaked(text, [KEY, PROXY_PASSWORD]):
                faults["secrets leaked"] += 1
                print(f"stream {number}: leak in {text[-300:]!r}")
    names = ("exceptions", "secrets leaked", "slow streams")
    print_table(["what", "found", "at most"], [(name, faults[name], 0) for name in names])
    print(f"{count} streams, the slowest in {slowest:.1f} s of CPU.")
    return faults.total()


def main() -> int:
    parser = build_parser("lab.fuzz.streams", __doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return min(1, run(options.count, options.seed))


if __name__ == "__main__":
    run_command(main)
