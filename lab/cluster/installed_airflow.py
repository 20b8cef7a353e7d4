"""The version of the Airflow that the lab runs. Does not import Airflow."""

from __future__ import annotations

from importlib.metadata import version

from packaging.version import Version

INSTALLED = Version(version("apache-airflow-core"))
#: By release number, so that a pre-release counts too.
IS_3_4_PLUS = INSTALLED.release >= (3, 4)
