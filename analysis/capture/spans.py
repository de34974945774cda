"""When the parts of a model run: a call at the start and at the end of each, topk inside the indexers included."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from indexscope.analysis.capture.indexer import TOPK

Parts = Mapping[str, Sequence[nn.Module]]
Mark = Callable[[str], None]
#: Is handed a call of topk that it may make as often as it likes, before the model makes it.
BeforeTopk = Callable[[Callable[[], object]], None]
SELECTION = "selection"


class Totals:
    """What the parts' calls add to a meter, by name; what an indexer adds inside an attention is no attention's.

    Args:
        now: Reads the meter.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.found: dict[str, float] = defaultdict(float)
        self._started: list[tuple[str, float]] = []

    def start(self, name: str) -> None:
        """A call of the part begins."""
        self._started.append((name, self.now()))

    def stop(self, name: str) -> None:
        """The call that began last ends."""
        spent = self.now() - self._started.pop()[1]
        self.found[name] += spent
        if name == "indexer" and any(around == "attention" for around, _ in self._started):
            self.found["attention"] -= spent


@contextmanager
def spans(parts: Parts, start: Mark, stop: Mark, before: BeforeTopk | None = None) -> Iterator[None]:
    """Call ``start`` and ``stop`` with a part's name around each forward of its modules in this thread.

    Args:
        parts: Modules by name; those named indexer are where topk is looked for.
        start: Called before.
        stop: Called after.
        before: Where it is given, topk inside the indexers is marked too, as "selection", and this is called first.
            Looking for topk slows an indexer's other operators down, so times of the other parts are taken without.
    """
    handles, here = [], threading.get_ident()
    open_modes: list[_AroundTopk] = []
    for name, modules in parts.items():
        for module in modules:
            handles.append(module.register_forward_pre_hook(_call(start, name, here)))
            handles.append(module.register_forward_hook(_call(stop, name, here)))

    def enter(*_: object) -> None:
        assert before is not None
        if threading.get_ident() != here:
            return
        open_modes.append(_AroundTopk(start, stop, before))
        open_modes[-1].__enter__()  # type: ignore[no-untyped-call]

    def leave(*_: object) -> None:
        if threading.get_ident() == here:
            open_modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    for module in parts["indexer"] if before is not None else ():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, prepend=True))
    try:
        yield
    finally:
        while open_modes:  # a forward that ran out of memory does not call its hooks
            leave()
        for handle in handles:
            handle.remove()


def _call(mark: Mark, name: str, thread: int) -> Callable[..., None]:
    def hook(*_: object) -> None:
        if threading.get_ident() == thread:
            mark(name)

    return hook


class _AroundTopk(TorchFunctionMode):
    def __init__(self, start: Mark, stop: Mark, before: BeforeTopk) -> None:
        super().__init__()
        self.start, self.stop, self.before = start, stop, before

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in TOPK:
            return func(*args, **(kwargs or {}))
        self.before(lambda: func(*args, **(kwargs or {})))
        self.start(SELECTION)
        result = func(*args, **(kwargs or {}))
        self.stop(SELECTION)
        return result


def synchronise(devices: Iterable[torch.device]) -> None:
    """Wait until devices have done what they were told, so that a clock tells the truth."""
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
