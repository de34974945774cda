"""Operations, peak memory and time of topk in the parts of a model: all that one watched forward can tell."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from indexscope.analysis.capture.operations import flop_counter
from indexscope.analysis.capture.spans import SELECTION, Parts, Totals, spans, synchronise

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@dataclass(frozen=True)
class Counted:
    """What one forward told.

    Attributes:
        flops: By part, all layers together, as torch counts them of the code as it was written; attention without its
            indexer.
        peak_bytes: By part, the largest memory that one call takes while it runs, selection among them where an
            indexer called topk.
        selection: Seconds of topk inside the indexers, all layers together, of each repeat; empty where none was seen.
    """

    flops: dict[str, float]
    peak_bytes: dict[str, int]
    selection: tuple[float, ...]


def counted(
    parts: Parts,
    forward: Callable[[], object],
    devices: Sequence[torch.device],
    repeats: int = 0,
    around_waiting: Callable[[Callable[[], None], Callable[[], None]], None] = lambda pause, resume: None,
) -> Counted:
    """Run a model once and count.

    A part's peak is above what was alive when the call began (for the model: activations and logits, no weights).
    Attention is measured while its indexer does not run, and the indexer with its topk; selection is topk alone, its
    results included. On a GPU it is what torch's allocator gave out, workspaces of kernels included, on several the
    peaks of all together, weights that are copied there to run among them; on the CPU the bytes of all tensors alive,
    which leaves out what a kernel takes and gives back inside.

    Args:
        parts: Modules by name.
        forward: Runs the model once.
        devices: Where it runs.
        repeats: How often each topk is timed in its place before it runs, without anything that counts.
        around_waiting: Is given what to call before the forward waits for others and when it goes on.
    """
    watch = _Watch()
    gpus = [device for device in devices if device.type == "cuda"]
    meter: _Watch | _Allocator = _Allocator(gpus) if gpus else watch
    peaks, flops = _Peaks(meter), Totals(lambda: watch.flops)
    around_waiting(peaks.pause, peaks.resume)
    seconds = [0.0] * repeats
    timed = False

    def start(name: str) -> None:
        peaks.start(name)
        flops.start(name)

    def stop(name: str) -> None:
        flops.stop(name)
        peaks.stop(name)

    def clock(call: Callable[[], object]) -> None:
        nonlocal timed
        timed = repeats > 0
        with _disable_current_modes():
            for repeat in range(repeats):
                synchronise(devices)
                began = time.perf_counter()
                call()
                synchronise(devices)
                seconds[repeat] += time.perf_counter() - began

    with spans(parts, start, stop, clock), watch:
        forward()
    told = {name: total for name, total in flops.found.items() if name != SELECTION}
    return Counted(told, peaks.found, tuple(seconds) if timed else ())


class _Peaks:
    """The largest memory of one call of each part, by name."""

    def __init__(self, meter: _Watch | _Allocator) -> None:
        self.meter = meter
        self.began: list[tuple[str, int]] = []
        self.highest: list[int] = []
        self._paused = 0
        self.found: dict[str, int] = {}

    def start(self, name: str) -> None:
        self._settle()
        self.began.append((name, self.meter.live()))
        self.highest.append(self.meter.live())

    def stop(self, name: str) -> None:
        self._settle()
        _, before = self.began.pop()
        self.found[name] = max(self.found.get(name, 0), self.highest.pop() - before)

    def pause(self) -> None:
        """What others take and leave from now on is nobody's here."""
        self._settle()
        self._paused = self.meter.live()

    def resume(self) -> None:
        """Go on after a pause."""
        left = self.meter.live() - self._paused
        self.began = [(name, before + left) for name, before in self.began]
        self.highest = [highest + left for highest in self.highest]
        self.meter.restart()

    def _settle(self) -> None:
        """Give the peak since the last mark to whatever runs: the innermost part and the model."""
        peak = self.meter.peak()
        for place, (name, _) in enumerate(self.began):
            innermost = place == len(self.began) - 1
            if innermost or name == "model" or (name == "indexer" and self.began[-1][0] == SELECTION):
                self.highest[place] = max(self.highest[place], peak)
        self.meter.restart()


class _Allocator:
    """What torch's allocator has given out on GPUs."""

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.devices = devices

    def live(self) -> int:
        return sum(int(torch.cuda.memory_allocated(device)) for device in self.devices)

    def peak(self) -> int:
        return sum(int(torch.cuda.max_memory_allocated(device)) for device in self.devices)

    def restart(self) -> None:
        for device in self.devices:
            torch.cuda.reset_peak_memory_stats(device)


def _storages(value: Any) -> Iterator[torch.UntypedStorage]:
    """Of all tensors in an operator's arguments or result."""
    if isinstance(value, torch.Tensor):
        yield value.untyped_storage()
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _storages(part)
    elif isinstance(value, dict):
        yield from _storages(tuple(value.values()))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """FLOPs so far, by torch's rules, and the bytes of the storages that operators made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rules = flop_counter().flop_registry
        self.flops = 0.0
        self.now = self.highest = 0
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        #: Operators that are made of no others.
        self.whole: set[Any] = {torch.ops.prim.device.default}

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
        if func not in self.whole:
            with self:
                inner = func.decompose(*args, **(kwargs or {}))
            if inner is not NotImplemented:
                return inner
            if _COMPOSITE not in func.py_kernels:
                self.whole.add(func)
        given = {id(storage) for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        rule = self.rules.get(func._overloadpacket)
        if rule is not None:
            self.flops += rule(*args, **(kwargs or {}), out_val=result)
        for storage in _storages(result):
            if id(storage) not in given:
                self._note(storage)
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
