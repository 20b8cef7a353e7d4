"""A virtual environment for each version of Airflow and Python, in ``.matrix``."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from lab.cluster.airflow_environment import build_clean_environment
from lab.matrix.debian_python import unpack_python
from lab.matrix.versions import find_constraints
from lab.paths import ROOT

FOLDER = ROOT / ".matrix"
#: pyenv puts only the versions that the user has chosen on the PATH.
PYENV_VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
#: Seconds for one installation, with downloads.
INSTALLATION_TIMEOUT = 900.0


class PythonUnavailableError(Exception):
    """This version of Python is not on this machine, and cannot be installed here."""


class InstallationError(Exception):
    """The package does not install; the message contains the end of the installer's output."""


@cache
def find_python(version: str) -> str:
    """
    Return a Python of this version: an installed one, or else install one in ``.matrix``.

    Looks on the PATH and in pyenv, then tries uv's download and Debian's packages.

    :raises PythonUnavailableError: There is none.
    """
    debian = FOLDER / f"debian-python{version}"
    attempts = (
        lambda: None,
        lambda: _uv("python", "install", "--no-bin", version),
        lambda: unpack_python(version, debian),
    )
    for install in attempts:
        try:
            install()
            return _uv("python", "find", "--system", "--no-python-downloads", version).strip()
        except (InstallationError, OSError, subprocess.SubprocessError) as error:
            problem = error
    raise PythonUnavailableError(f"Python {version} cannot be installed on this machine") from problem


@cache
def make_environment(airflow: str, python: str) -> Path:
    """
    Install this checkout with a version of Airflow and its pins, and return the environment's Python.

    An environment from an earlier run is updated.

    :raises PythonUnavailableError: There is no such Python.
    :raises InstallationError: The installation failed.
    """
    folder = FOLDER / f"{airflow}-py{python}"
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        _uv("venv", "--python", find_python(python), str(folder))
    pins = str(find_constraints(airflow))
    constraints = ("--constraints", pins, "--build-constraints", pins)
    _uv("pip", "install", "--python", str(interpreter), *constraints, "--editable", f"{ROOT}[dev]")
    return interpreter


def _uv(*arguments: str) -> str:
    # With the user's own environment too, for a proxy or a package index.
    environment = {
        **os.environ,
        **build_clean_environment(),
        "UV_PYTHON_INSTALL_DIR": str(FOLDER / "pythons"),
        "UV_SYSTEM_CERTS": "true",
    }
    pythons = [*PYENV_VERSIONS.glob("*/bin"), *FOLDER.glob("debian-python*/usr/bin")]
    environment["PATH"] = os.pathsep.join([environment["PATH"], *map(str, pythons)])
    done = subprocess.run(  # noqa: S603
        ["uv", *arguments],  # noqa: S607
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALLATION_TIMEOUT,
    )
    if done.returncode:
        raise InstallationError("\n".join(done.stderr.strip().splitlines()[-10:]))
    return done.stdout
