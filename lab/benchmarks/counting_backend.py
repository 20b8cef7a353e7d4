"""A secrets backend that Airflow asks first: it logs each lookup of the contenders' connection."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.secrets import BaseSecretsBackend

from lab.benchmarks.contenders import CONN_ID


class CountingBackend(BaseSecretsBackend):
    """
    Writes one line for each lookup to the file that the environment variable ``LOOKUPS`` names.

    It knows no connection, so Airflow goes on to look into its environment variables.
    """

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        if conn_id == CONN_ID:
            with Path(os.environ["LOOKUPS"]).open("a") as file:
                file.write(f"{conn_id}\n")
        return None
