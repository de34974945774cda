"""The folder into which an object saves every picture that it makes."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path


class Folder:
    """A folder in which no picture of one object takes another's name; those of earlier objects are replaced.

    Args:
        path: The folder; it is made, with those above it.

    Raises:
        ValueError: It cannot be made or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._taken: set[str] = set()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(
                f"save_dir {str(self.path)!r} cannot be written ({reason}); give a folder in which files can be made"
            ) from None

    def place(self, name: str, given: str | os.PathLike[str] | None = None) -> Path:
        """Where the next picture goes: as given, else name.png, then name_2.png, name_3.png, ...

        Args:
            name: What the picture is called.
            given: A path that goes before the folder; if it lies in the folder its name is taken from then on.
        """
        if given is not None:
            path = Path(given).expanduser()
            if path.resolve().parent == self.path.resolve():
                self._taken.add(path.stem.lower())
            return path
        stem = re.sub(r"[^\w.-]+", "_", name).strip("._") or "figure"
        number, chosen = 1, stem
        while chosen.lower() in self._taken:
            number += 1
            chosen = f"{stem}_{number}"
        self._taken.add(chosen.lower())
        return self.path / f"{chosen}.png"
