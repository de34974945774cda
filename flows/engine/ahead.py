"""What this process will need later, imported while worker processes are at work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Thread


def in_background(imports: Iterable[Callable[[], None]]) -> Thread:
    """Call what imports in a thread of its own. Whoever needs a module meanwhile waits for it, as for any import.

    What cannot be imported is left to those who need it: they say why.
    """

    def work() -> None:
        for one in imports:
            with suppress(Exception):
                one()

    thread = Thread(target=work, name="imports", daemon=True)
    thread.start()
    return thread
