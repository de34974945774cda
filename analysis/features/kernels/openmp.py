"""Tasks on the OpenMP threads that torch itself computes with.

After every operation torch's OpenMP threads spin for milliseconds, so that the next one finds them awake. Threads of
our own would share their cores with that; a parallel region of our own uses the same threads, and the model's next
operation finds them warm.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=1)
def parallel_region() -> Callable[..., None] | None:
    """GOMP_parallel(function, data, threads, flags) of the runtime that torch brings along; None if it brings none."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("lib?omp*.so*")):
        # Already loaded by torch, so that this opens the same copy.
        region = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if region is not None:
            region.argtypes = [_REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            region.restype = None
            return region  # type: ignore[no-any-return]
    return None


def run_on_openmp(region: Callable[..., None], tasks: Sequence[Callable[[], _T]], threads: int) -> list[_T]:
    """Results of all tasks in their order.

    Args:
        region: What `parallel_region` gave.
        tasks: Taken in order by whichever thread is free; torch's operations inside them take one thread.
        threads: How many.
    """
    results: list[Any] = [None] * len(tasks)
    errors: list[BaseException] = []
    waiting = iter(list(enumerate(tasks)))

    def work(_: int | None) -> None:
        try:
            with torch.inference_mode():
                # next() of a list's iterator is atomic.
                for place, task in waiting:
                    results[place] = task()
        except BaseException as error:
            errors.append(error)

    region(_REGION(work), None, threads, 0)
    if errors:
        raise errors[0]
    return results
