"""What a watched forward needs of the process and of the module, held for as long as any thread needs it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from weakref import WeakKeyDictionary

import torch
from torch import nn

_lock = threading.Lock()
_locks: WeakKeyDictionary[object, AbstractContextManager[object]] = WeakKeyDictionary()
#: How many hold a module in eval mode, and the modules that were in training before the first of them.
_holders: Counter[nn.Module] = Counter()
_training: set[nn.Module] = set()


class Held(AbstractContextManager[None]):
    """A context of the whole process: the first thread to enter it opens it, the last to leave it closes it.

    Threads that each opened and closed one would put back what they found in the wrong order.

    Args:
        make: Makes the context anew.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make, self._lock, self._count = make, threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._count:
                self._open = self._make()
                self._open.__enter__()
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._open.__exit__(None, None, None)


@contextmanager
def _plain() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


#: Without torch's fused encoder layers and without compiled code, which make no calls that could be seen.
plain_torch = Held(_plain)


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """In eval mode, each part while any thread needs it: what dropout leaves out would look like a selection."""
    parts = list(module.modules())
    with _lock:
        for part in parts:
            if not _holders[part] and part.training:
                _training.add(part)
                part.training = False
        _holders.update(parts)
    try:
        yield
    finally:
        with _lock:
            for part in parts:
                _holders[part] -= 1
                if not _holders[part]:
                    del _holders[part]
                    if part in _training:
                        _training.remove(part)
                        part.training = True


def alone(model: object) -> AbstractContextManager[object]:
    """The lock of one model: a module of one's own may keep state of a forward on itself.

    However often a model is wrapped, it has one lock, which its thread may take again.
    """
    with _lock:
        try:
            return _locks.setdefault(model, threading.RLock())
        except TypeError:  # of a kind that cannot be looked up
            return threading.RLock()
