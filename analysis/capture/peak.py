"""Peak memory of the parts of a model during one forward, above what they found when they began."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from indexscope.analysis.capture.spans import Parts, spans

_WHOLE = (torch.ops.prim.device.default,)


def peak_bytes(parts: Parts, forward: Callable[[], object], device: torch.device) -> dict[str, int]:
    """Largest memory that one call of each part takes while it runs, over all layers.

    A part's peak is above what was alive when the call began (for the model: activations and logits, no weights).
    Attention is measured while its indexer does not run, and the indexer with its topk; selection is topk alone, its
    results included. On a GPU it is what torch's allocator gave out, workspaces of kernels included; on the CPU the
    bytes of all tensors alive, which leaves out what a kernel takes and gives back inside.

    Args:
        parts: Modules by name.
        forward: Runs the model once.
        device: Where it runs.

    Returns:
        Bytes by part, selection among them where an indexer called topk.
    """
    meter: _Live | _Allocator = _Allocator(device) if device.type == "cuda" else _Live()
    began: list[tuple[str, int]] = []
    highest: list[int] = []
    found: dict[str, int] = {}

    def settle() -> None:
        """Give the peak since the last mark to whatever runs: the innermost part and the model."""
        peak = meter.peak()
        for place, (name, _) in enumerate(began):
            innermost = place == len(began) - 1
            if innermost or name == "model" or (name == "indexer" and began[-1][0] == "selection"):
                highest[place] = max(highest[place], peak)
        meter.restart()

    def start(name: str) -> None:
        settle()
        began.append((name, meter.live()))
        highest.append(meter.live())

    def stop(name: str) -> None:
        settle()
        _, before = began.pop()
        found[name] = max(found.get(name, 0), highest.pop() - before)

    with spans(parts, start, stop, selection=True), meter if isinstance(meter, _Live) else nullcontext():
        forward()
    return found


class _Allocator:
    """What torch's allocator has given out on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def live(self) -> int:
        return int(torch.cuda.memory_allocated(self.device))

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated(self.device))

    def restart(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The bytes of the storages that operators made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.highest = 0
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def live(self) -> int:
        return self.now

    def peak(self) -> int:
        return self.highest

    def restart(self) -> None:
        self.highest = self.now

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # In inference mode composite operators arrive whole; what they make inside counts too.
        if func not in _WHOLE:
            with self:
                inner = func.decompose(*args, **(kwargs or {}))
            if inner is not NotImplemented:
                return inner
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and id(leaf.untyped_storage()) not in given:
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.known:
            return

        def gone(_: object) -> None:
            self.known.pop(key, None)
            self.now -= size

        self.known[key] = weakref.ref(storage, gone)
        self.now += size
        self.highest = max(self.highest, self.now)
