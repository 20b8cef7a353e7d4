"""Every module can be imported first, also beside a provider whose metadata imports classes of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lab.package_imports import PACKAGE, list_modules

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    f"{PACKAGE}.{name}".rstrip(".") for name in list_modules(ROOT / PACKAGE) if "__main__" not in name
)
#: The other provider. Airflow itself cannot import an operator here, only hooks.
OTHER_PROVIDER = """
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook

class OtherHook(LightconeHook): conn_type = "other_agent"
class SecondHook(ShinzoHook): conn_type = "second_agent"
class ThirdHook(AgentTaskHook): conn_type = "third_agent"

def get_provider_info():
    print("DISCOVERED")
    connection_type = {"connection-type": "other_agent", "hook-class-name": "other_provider.OtherHook"}
    return {
        "package-name": "other-provider",
        "name": "Other",
        "description": "A provider that builds on ours.",
        "connection-types": [connection_type],
    }
"""
# A process of its own for each module, forked with everything imported but Airflow and this package: fresh
# interpreters would take minutes.
PROGRAM = """
import importlib, json, os, sys, traceback

def fork(work):
    read_end, write_end = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(write_end, 1)
        os.close(read_end)
        status = 0
        try:
            work()
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end) as output:
        text = output.read()
    return os.waitpid(child, 0)[1], text

def import_all():
    for module in modules:
        importlib.import_module(module)
    print("LIST", json.dumps(list(sys.modules)))

modules = json.loads(sys.argv[1])
_, text = fork(import_all)
for name in json.loads(text.rpartition("LIST ")[2] or "[]"):
    if name.partition(".")[0] not in ("airflow", "airflow_agent_tasks", "other_provider", "__mp_main__"):
        try:
            importlib.import_module(name)
        except Exception:
            pass
assert not [name for name in sys.modules if name.startswith("airflow")]
results = {module: fork(lambda: importlib.import_module(module)) for module in modules}
failed = [module for module, (status, _) in results.items() if status]
met = [module for module, (_, text) in results.items() if "DISCOVERED" in text]
print(json.dumps([failed, met]))
"""


def test_each_module_can_be_imported_first_beside_a_provider_with_a_subclass_of_a_hook(
    tmp_path: Path,
) -> None:
    info = tmp_path / "other_provider-1.0.dist-info"
    info.mkdir()
    (tmp_path / "other_provider.py").write_text(OTHER_PROVIDER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-provider\nVersion: 1.0\n")
    entry_point = "provider_info = other_provider:get_provider_info"
    (info / "entry_points.txt").write_text(f"[apache_airflow_provider]\n{entry_point}\n")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(MODULES)],
        **{"capture_output": True, "text": True, "timeout": 300, "env": environment, "check": False},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    failed, met = json.loads(ended.stdout.splitlines()[-1])
    assert failed == [], ended.stderr[-3000:]
    # The other provider was there: every module that imports Airflow met it.
    assert f"{PACKAGE}.hooks.lightcone" in met
    assert f"{PACKAGE}.operators.lightcone" in met
