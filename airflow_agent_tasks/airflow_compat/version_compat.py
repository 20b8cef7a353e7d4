"""The Airflow that runs, as far as this room has to tell versions apart. Imports nothing heavy."""

from __future__ import annotations

from airflow import __version__

#: By major and minor version, so that a pre-release counts, too.
AIRFLOW_V_3_4_PLUS = tuple(int(part) for part in __version__.split(".")[:2]) >= (3, 4)
