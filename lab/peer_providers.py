"""The other providers that ours is compared with, installed in a separate folder."""

from __future__ import annotations

from lab.paths import ROOT

#: In PYTHONPATH, because Airflow looks for providers in every folder of the import path.
PEERS_FOLDER = ROOT / ".peers"


def require_peers() -> None:
    """Exit with a message that says what to do if the other providers are not installed."""
    if not (PEERS_FOLDER / ".installed").exists():
        raise SystemExit("The providers to compare with are not installed: run `make peers` first.")
