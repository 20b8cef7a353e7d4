"""Hooks: they turn an Airflow connection into a client, and offer its calls to DAG authors."""

from __future__ import annotations

# Before any module of this folder: the first import of Airflow imports the metadata of every provider. A
# provider that subclasses one of our hooks would then import a module that is still being imported.
from airflow.sdk import BaseHook  # noqa: F401
