"""
Unpacks a newer Python than the system's, from Debian's next release, into a separate folder.

Nothing is installed: the packages, including the C library, are unpacked, and the interpreter is set up to
load the libraries beside it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lab.cluster.airflow_environment import build_clean_environment

#: Seconds for one of apt's commands, with downloads.
TIMEOUT = 300.0


def unpack_python(version: str, folder: Path) -> None:
    """
    Unpack ``usr/bin/pythonVERSION`` and all its dependencies into a folder.

    :raises OSError: This is not Debian, or its packages have no dynamic loader in the expected place.
    :raises subprocess.SubprocessError: A command failed, as when the release has no such Python.
    """
    apt_folder = folder / "apt"
    for name in ("lists/partial", "archives/partial"):
        (apt_folder / name).mkdir(parents=True, exist_ok=True)
    sources = apt_folder / "sources.list"
    sources.write_text("".join(f"deb {address} testing main\n" for address in _find_archives()))
    # As if nothing were installed, so that all dependencies of the interpreter are fetched.
    (apt_folder / "status").touch()
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State": apt_folder,
        "Dir::State::Status": apt_folder / "status",
        "Dir::Cache": apt_folder,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
    }
    apt_get = ["apt-get", *(f"-o{name}={value}" for name, value in settings.items())]
    _run(*apt_get, "update")
    _run(*apt_get, "install", "--download-only", "--yes", f"python{version}")
    for package in (apt_folder / "archives").glob("*.deb"):
        _run("dpkg-deb", "--extract", str(package), str(folder))
    loaders = list((folder / "usr" / "lib").glob("*/ld-linux*.so.*"))
    if len(loaders) != 1:
        raise FileNotFoundError(f"{len(loaders)} dynamic loaders instead of one in {folder / 'usr' / 'lib'}")
    libraries = str(loaders[0].parent)
    patch = ["patchelf", "--set-interpreter", str(loaders[0]), "--force-rpath", "--set-rpath", libraries]
    _run(*patch, str(folder / "usr" / "bin" / f"python{version}"))


def _find_archives() -> list[str]:
    """Return the addresses of Debian's archives that this machine uses."""
    found = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages").split()
    return [address for address in dict.fromkeys(found) if address.rstrip("/").endswith("/debian")]


def _run(*command: str) -> str:
    # With the user's own environment too, for a proxy.
    environment = {**os.environ, **build_clean_environment()}
    done = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    return done.stdout
