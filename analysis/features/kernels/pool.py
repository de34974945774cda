"""Threads that share the blocks of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from indexscope.analysis.features.kernels.openmp import parallel_region, run_on_openmp

_T = TypeVar("_T")


def run_all(tasks: Sequence[Callable[[], _T]]) -> list[_T]:
    """Results of all tasks in their order, whatever thread ran them; as many threads as torch has for one operation.

    With one torch thread, as in a worker that shares the machine with others, everything runs in the caller.
    """
    threads = min(torch.get_num_threads(), len(tasks))
    region = parallel_region()
    if threads == 1 or region is None:
        return [task() for task in tasks]
    return run_on_openmp(region, tasks, threads)
