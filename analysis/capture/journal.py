"""What a run of a model has to tell beside its numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger("indexscope")


class Journal:
    """Notes for the user, and the chunk sizes that were used.

    Args:
        tell: Called with each note as it is made; by default it goes to the log as a warning.

    Attributes:
        notes: Each said once, in order.
        chunks: Chunk sizes with which batches were finished.
        leaks: The note that the model was seen to attend to keys after their query; empty if it was not.
    """

    def __init__(self, tell: Callable[[str], None] = _log.warning) -> None:
        self.notes: list[str] = []
        self.chunks: set[int] = set()
        self.leaks = ""
        self._tell = tell

    def note(self, line: str) -> None:
        """Tell something, unless it was told before."""
        if line not in self.notes:
            self.notes.append(line)
            self._tell(line)

    def state(self) -> tuple[list[str], str]:
        """What was said so far."""
        return self.notes, self.leaks

    def restore(self, state: tuple[list[str], str]) -> None:
        """Say what another one said of the same run."""
        notes, leaks = state
        for line in notes:
            self.note(line)
        self.leaks = self.leaks or leaks
