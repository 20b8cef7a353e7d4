"""From an Airflow connection to a client, and the calls of DAG authors."""

from __future__ import annotations

# Before any module of this folder: the first import of Airflow imports the metadata of every provider, and
# one with a subclass of a hook would meet a module of ours that is only half imported.
from airflow.sdk import BaseHook  # noqa: F401
