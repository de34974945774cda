"""How every kernel is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def kernel(function: _Kernel) -> _Kernel:
    """Compile on the first call and cache on disk; the interpreter lock is free while it runs.

    Sums may be reordered so that they vectorise; a kernel must therefore never meet NaN or infinity. ``parallel`` is
    left out: numba's thread pools do not allow several Python threads to run parallel kernels at once.
    """
    return _compile(function, fastmath=True)


def exact(function: _Kernel) -> _Kernel:
    """Like ``kernel``, but with IEEE arithmetic: for kernels that may meet NaN or infinity."""
    return _compile(function, fastmath=False)


def _compile(function: _Kernel, fastmath: bool) -> _Kernel:
    try:
        compiled = njit(nogil=True, fastmath=fastmath, cache=True, error_model="numpy")(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written to: compile anew in every process.
        compiled = njit(nogil=True, fastmath=fastmath, error_model="numpy")(function)
    return cast(_Kernel, compiled)
