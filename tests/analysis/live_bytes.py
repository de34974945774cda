"""What tensors and arrays hold at their most, counted, and how it grows with the length of a sequence."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Peak of the bytes that tensors made while the mode is active hold at once."""

    def __init__(self) -> None:
        super().__init__()
        self.users: Counter[int] = Counter()
        self.held = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                storage = tensor.untyped_storage()
                self.users[storage.data_ptr()] += 1
                if self.users[storage.data_ptr()] == 1:
                    self.held += storage.nbytes()
                weakref.finalize(tensor, self._released, storage.data_ptr(), storage.nbytes())
        self.peak = max(self.peak, self.held)
        return result

    def _released(self, pointer: int, size: int) -> None:
        self.users[pointer] -= 1
        if not self.users[pointer]:
            self.held -= size


def peak(work: Callable[[int], object], length: int) -> int:
    """Bytes of tensors at their most, and of numpy's arrays at theirs."""
    gc.collect()
    with LiveBytes() as live:
        work(length)
    gc.collect()
    tracemalloc.start()  # in a round of its own: it would count, at length, what the mode above keeps
    try:
        work(length)
        return live.peak + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(work: Callable[[int], object], first: int = 64) -> float:
    """Twice the length: 2 where what grows is linear in it, 4 where quadratic; constants cancel out."""
    short, middle, long = (peak(work, length) for length in (first, 2 * first, 4 * first))
    return (long - middle) / (middle - short)
