"""The Airflow that runs, as far as this room has to tell versions apart. Imports nothing heavy."""

from __future__ import annotations

from airflow import __version__

#: ``major.minor``, also of a pre-release.
AIRFLOW_VERSION = tuple(int(part) for part in __version__.split(".")[:2])
AIRFLOW_V_3_4_PLUS = AIRFLOW_VERSION >= (3, 4)
