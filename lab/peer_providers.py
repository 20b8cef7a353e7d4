"""The other providers that ours is compared with, installed in a folder of their own."""

from __future__ import annotations

from lab.paths import ROOT

#: Airflow looks for providers in every folder of the import path: with this one in PYTHONPATH it finds them.
PEERS_FOLDER = ROOT / ".peers"


def require_peers() -> None:
    """Exit with a sentence that says what to do where the other providers are not installed."""
    if not (PEERS_FOLDER / ".installed").exists():
        raise SystemExit("The providers to compare with are not installed: run `make peers` first.")
