from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from airflow_agent_tasks.sandbox import build_connection_variables

COMMAND = [sys.executable, "-m", "airflow_agent_tasks.sandbox"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_line_is_an_address_that_answers_and_a_signal_ends_it_cleanly(number):
    with running("--port", "0", "--api-key", "sk_secret_of_mine") as (process, url):
        body = {"instruction": "#sandbox {}"}
        headers = {"Authorization": "Bearer sk_secret_of_mine"}
        assert requests.post(f"{url}/agent/tasks", json=body, headers=headers, timeout=10).status_code == 200
        assert requests.post(f"{url}/agent/tasks", json=body, timeout=10).status_code == 401
        process.send_signal(number)
        lines = process.stdout.read().splitlines()
        assert (process.wait(timeout=10), process.stderr.read()) == (0, "")
        assert [line.partition("=")[0] for line in lines] == [
            "export AIRFLOW_CONN_LIGHTCONE_DEFAULT",
            "export AIRFLOW_CONN_SHINZO_DEFAULT",
        ]


@pytest.mark.parametrize("key", ["sk_sandbox", 'it\'s "quoted" $HOME `id` \\ !', "ü"])
def test_what_it_prints_can_be_pasted_into_a_shell(key):
    with running("--port", "0", "--api-key", key) as (process, url):
        process.terminate()
        lines = process.stdout.read()
    show = "import json, os; print(json.dumps({n: v for n, v in os.environ.items() if n[:8] == 'AIRFLOW_'}))"
    program = f"{lines}\n{shlex.quote(sys.executable)} -c {shlex.quote(show)}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    ended = subprocess.run(
        ["sh", "-c", program], capture_output=True, text=True, timeout=30, check=True, env=environment
    )
    assert json.loads(ended.stdout) == build_connection_variables(url, key)


def test_a_reader_of_the_first_line_alone_does_not_end_it():
    process = subprocess.Popen([*COMMAND, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        process.stdout.close()
        assert requests.get(f"{url}/_sandbox/tasks", timeout=10).json() == []
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(timeout=10)


def test_listening_for_everybody_is_warned_about():
    with running("--port", "0", "--host", "0.0.0.0") as (process, url):  # noqa: S104
        assert requests.get(f"{url}/_sandbox/tasks", timeout=10).json() == []
        process.terminate()
        _, err = process.communicate(timeout=10)
    assert err.startswith("Warning: Listening on 0.0.0.0")
    assert err.count("\n") == 1


def test_a_port_in_use_gives_one_sentence_and_status_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, timeout=30, check=False
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(
        f"The sandbox cannot listen on 127.0.0.1 port {port}: Address already in use"
    )
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--port", "none"], ["--nonsense"]])
def test_wrong_arguments_are_refused(arguments):
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, "usage:" in ended.stderr) == (2, "", True)


def test_the_sandbox_imports_neither_airflow_nor_the_rest_of_the_package():
    code = (
        "import sys, airflow_agent_tasks.sandbox.server, airflow_agent_tasks.sandbox.cli\n"
        "parts = 'client hooks operators sensors triggers decorators plugin'.split()\n"
        "unwanted = {'airflow', *('airflow_agent_tasks.' + part for part in parts)}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"


def test_airflow_gets_a_command_with_the_same_options(tmp_path):
    code = (
        "import argparse, sys\n"
        "from airflow_agent_tasks.cli.commands import get_agent_tasks_cli_commands\n"
        "(group,) = get_agent_tasks_cli_commands()\n"
        "*_, command = group.subcommands\n"
        "parser = argparse.ArgumentParser()\n"
        "for argument in command.args:\n"
        "    argument.add_to_parser(parser)\n"
        "print(group.name, *(one.name for one in group.subcommands), flush=True)\n"
        "command.func(parser.parse_args(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            # Airflow's own code has warnings on Python 3.14, and prints them.
            [sys.executable, "-W", "ignore", "-c", code, "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
    assert (ended.returncode, ended.stdout) == (
        1,
        "agent-tasks list show message pause resume stop reconcile doctor sandbox\n",
    )
    assert f"port {port}: Address already in use" in ended.stderr


def test_the_defaults_are_this_machine_and_the_documented_port_and_key():
    from airflow_agent_tasks.sandbox.cli import _OPTIONS

    parser = argparse.ArgumentParser()
    for flag, details in _OPTIONS.items():
        parser.add_argument(flag, **details)
    options = parser.parse_args([])
    assert (options.host, options.port, options.api_key) == ("127.0.0.1", 8321, "sk_sandbox")
