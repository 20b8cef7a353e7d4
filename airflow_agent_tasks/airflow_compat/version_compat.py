"""The version of the running Airflow, for the modules of this folder. Imports nothing heavy."""

from __future__ import annotations

from airflow import __version__

#: By major and minor version, so that a pre-release counts too.
AIRFLOW_V_3_4_PLUS = tuple(int(part) for part in __version__.split(".")[:2]) >= (3, 4)
