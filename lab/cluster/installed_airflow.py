"""The Airflow that the lab runs, as far as it has to tell versions apart. Imports no Airflow."""

from __future__ import annotations

from importlib.metadata import version

from packaging.version import Version

INSTALLED = Version(version("apache-airflow-core"))
#: By the release, so that a pre-release counts, too.
IS_3_4_PLUS = INSTALLED.release >= (3, 4)
