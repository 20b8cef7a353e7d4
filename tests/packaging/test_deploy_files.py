"""The files in ``deploy/`` pass the checks of the tools that read them, and fit Airflow and each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.configuration import conf

from lab.benchmarks.tls_certificate import write_certificate
from lab.matrix.versions import list_airflow_versions

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text())
#: The variables without which Docker Compose refuses to start anything.
SECRETS = sorted(set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text())))
BIN = Path(sys.executable).parent


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def find_compose() -> list[str]:
    """Return the command of Docker Compose, which needs no engine to read a file."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            version = re.match(r"v?(\d+)\.", run(*command, "version", "--short").stdout)
            if version and int(version[1]) >= 2:
                return command
    pytest.skip("Docker Compose, 2 or newer, is not installed")


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    done = run(BIN / "hadolint", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_image_is_of_a_supported_airflow_and_does_not_run_as_root() -> None:
    (version,) = re.findall(r"^FROM apache/airflow:(\S+)$", DOCKERFILE, re.MULTILINE)
    assert version in list_airflow_versions()
    assert version == VALUES["airflowVersion"]
    assert int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[-1]) > 0


def test_all_name_the_same_image() -> None:
    (image,) = re.findall(r"--tag (\S+) \.", DOCKERFILE)
    ours = VALUES["images"]["airflow"]
    assert f"{ours['repository'].rpartition('/')[2]}:{ours['tag']}" == image
    assert {service["image"] for service in COMPOSE["services"].values() if "build" in service} == {
        f"${{AIRFLOW_IMAGE:-{image}}}"
    }
    assert f"{ours['repository']}:{ours['tag']}" in PAGE
    assert f"--tag {image} ." in PAGE


def test_the_compose_file_fits_the_schema_of_compose() -> None:
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_compose_reads_its_file_and_refuses_it_without_one_of_the_secrets(tmp_path: Path) -> None:
    compose = find_compose()

    def read_config(names: list[str]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "env").write_text("".join(f"{name}=secret\n" for name in names))
        options = ["--file", str(DEPLOY / "compose.yaml"), "--env-file", str(tmp_path / "env")]
        return run(
            *compose, *options, "--profile", "sandbox", "config", "--quiet", env={"PATH": os.environ["PATH"]}
        )

    assert read_config(SECRETS).returncode == 0
    for name in SECRETS:
        refused = read_config([one for one in SECRETS if one != name])
        assert refused.returncode != 0
        assert name in refused.stderr


def test_the_guide_creates_each_secret_of_compose_and_explains_each_other_variable() -> None:
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text())) - {"HOSTNAME"}
    (loop,) = re.findall(r"FERNET_KEY=.*?> \.env", PAGE, re.DOTALL)
    assert [name for name in SECRETS if name not in loop] == []
    explained = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert explained == used - set(SECRETS)


def test_each_component_of_airflow_has_the_secrets_that_all_share() -> None:
    shared = COMPOSE["x-environment"].items()
    services = {name: one for name, one in COMPOSE["services"].items() if "build" in one}
    assert {"api-server", "scheduler", "dag-processor", "triggerer", "worker"} < services.keys()
    assert [name for name, one in services.items() if not shared <= one["environment"].items()] == []


def list_options() -> list[tuple[str, str]]:
    """Return each option of Airflow that one of the files sets."""
    names = {*COMPOSE["x-environment"], *(one["envName"] for one in VALUES["secret"])}
    variables = [re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)", name) for name in names]
    options = {(found[1].lower(), found[2].lower()) for found in variables if found}
    return sorted(options | {(section, name) for section, ones in VALUES["config"].items() for name in ones})


@pytest.mark.parametrize(("section", "name"), list_options())
def test_airflow_knows_each_option_that_is_set(section: str, name: str) -> None:
    described = conf.configuration_description.get(section, {}).get("options", {})
    assert name in described or conf.has_option(section, name)


def test_helm_gives_each_secret_of_the_guide_to_airflow() -> None:
    created = dict(re.findall(r"create secret generic (\S+) \\\n(.*?)\n    (?:kubectl|```)", PAGE, re.DOTALL))
    keys = {name: set(re.findall(r"--from-literal=([\w-]+)=", text)) for name, text in created.items()}
    # The keys that the chart reads in secrets of these kinds.
    expected = {
        VALUES["fernetKeySecretName"]: {"fernet-key"},
        VALUES["apiSecretKeySecretName"]: {"api-secret-key"},
        VALUES["jwtSecretName"]: {"jwt-secret"},
        VALUES["data"]["metadataSecretName"]: {"connection"},
    }
    for one in VALUES["secret"]:
        expected.setdefault(one["secretName"], set()).add(one["secretKey"])
    assert keys == expected


def test_nginx_accepts_the_proxy(tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if not nginx:
        pytest.skip("nginx is not installed")
    write_certificate(tmp_path / "certificate")
    # A Unix socket, because only root may listen on port 443; and paths of this test.
    text = (DEPLOY / "nginx.conf").read_text().replace("listen 443", f"listen unix:{tmp_path}/socket")
    text = re.sub(r"/etc/nginx/[\w-]+\.(crt|key)", f"{tmp_path}/certificate", text)
    text = text.replace("/var/log/nginx/", f"{tmp_path}/")
    logs = f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}"
    (tmp_path / "nginx.conf").write_text(f"{logs} http {{ access_log off; {text} }}")
    done = run(nginx, "-t", "-e", tmp_path / "log", "-c", tmp_path / "nginx.conf")
    assert done.returncode == 0, done.stderr
