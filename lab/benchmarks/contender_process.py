"""Runs a benchmark in a process of its own, mostly for one contender."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.benchmarks import bare_loops
from lab.benchmarks.contenders import CONTENDERS
from lab.benchmarks.processors import pin
from lab.benchmarks.tls_certificate import build_trust_variables
from lab.cluster.processes import Program
from lab.paths import ROOT
from lab.peer_providers import PEERS_FOLDER

TITLES = {**bare_loops.TITLES, **{name: contender.title for name, contender in CONTENDERS.items()}}
CONTENDER_TIMEOUT = 900.0
#: Seconds for a program to stop what it started, such as an Airflow.
CLEAN_UP_SECONDS = 30.0


def run(
    module: str, arguments: Sequence[Any], *, home: str | None = None, certificate: Path | None = None
) -> dict[str, Any]:
    """Run a module, mostly for the contender in the first argument; return its last line, parsed as JSON."""
    title = TITLES.get(arguments[0], module)
    print(f"{title}: {' '.join(str(one) for one in arguments[1:])} ...", file=sys.stderr, flush=True)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(PEERS_FOLDER)])
    if home:
        environment["AIRFLOW_HOME"] = home
    if certificate:
        environment |= build_trust_variables(certificate)
    command = [sys.executable, "-m", module, *(str(one) for one in arguments)]
    with tempfile.TemporaryDirectory() as folder:
        log, output = Path(folder) / "log", Path(folder) / "output"
        program = Program(title, command, environment=environment, log_path=log, output_path=output)
        try:
            if home:
                pin(program, 1)
            status = program.wait(timeout=CONTENDER_TIMEOUT)
            if status != 0:
                ended = (
                    f"did not end in {CONTENDER_TIMEOUT:.0f} s" if status is None else f"ended with {status}"
                )
                raise SystemExit(f"{command} {ended}.\n{program.describe_log_end()}")
        finally:
            program.stop(grace=CLEAN_UP_SECONDS)
        return dict(json.loads(output.read_text().splitlines()[-1]))
