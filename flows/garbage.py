"""When Python looks for cycles among objects: seldom while all is imported that stays, which takes a fifth less."""

from __future__ import annotations

import gc

USUAL = gc.get_threshold()
SELDOM = 100_000


def seldom() -> None:
    """Look after so many new objects that imports are hardly ever looked through."""
    gc.set_threshold(SELDOM, *USUAL[1:])


def as_usual() -> None:
    """Look as often as ever again, since cycles may hold tensors, but not among what is there by now."""
    if gc.get_threshold()[0] == SELDOM:
        gc.freeze()
        gc.set_threshold(*USUAL)
