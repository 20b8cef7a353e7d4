"""A folder as a case's object storage, which can fail."""

from __future__ import annotations

from pathlib import Path


class ArtifactsFolder:
    """
    The object storage of one case.

    :param path: The folder; the operator creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._backup = self._path.with_suffix(".kept")

    @property
    def url(self) -> str:
        """The address for ``artifacts_path``."""
        return f"file://{self._path}"

    def list_names(self) -> list[str]:
        """Return the names of all stored files."""
        return sorted(path.name for path in self._path.rglob("*") if path.is_file())

    def break_down(self) -> None:
        """Fail every request from now on: a file takes the folder's place, which stops root as well."""
        self._path.rename(self._backup)
        self._path.touch()

    def repair(self) -> None:
        """Store files again, beside those from before."""
        self._path.unlink()
        self._backup.rename(self._path)
