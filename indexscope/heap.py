"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache


def give_back() -> None:
    """Have glibc return what it keeps of freed memory, if it is glibc that does.

    Tensors that are each a little larger than the one before leave holes that the next does not fit into, so that a
    process grows to many times what lives in it.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], int] | None:
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    return found
