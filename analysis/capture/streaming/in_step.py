"""Forwards of a model's own that go through its layers in step, so that each layer is read once for all of them.

Each runs in a thread of its own, one at a time, and waits before a layer until all have come there and it has been
read. Nothing else is different from a forward that is alone, so that its clock, less the waiting, tells the same.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import nn

from indexscope.analysis.capture.interface import running
from indexscope.analysis.capture.selecting import Carried
from indexscope.analysis.capture.spans import synchronise
from indexscope.analysis.capture.streaming.together import Worker

T = TypeVar("T")


class Weights(Protocol):
    """The parts of a model whose weights come and go."""

    @property
    def seconds(self) -> float:
        """What loading has taken so far."""
        ...

    def held(self, part: nn.Module) -> AbstractContextManager[None]:
        """A part's weights, within the block."""
        ...


class Forward:
    """One of several forwards, as whoever runs and measures it sees it."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self._weights, self._device, self._waited = weights, device, 0.0
        self._pause: Callable[[], None] = lambda: None
        self._resume: Callable[[], None] = lambda: None
        self.worker: Worker[Any] | None = None
        self.coming: Sequence[nn.Module] = ()
        self.at: nn.Module | None = None

    def away(self) -> float:
        """Seconds, of all that have passed, in which it waited or weights were read."""
        return self._waited + self._weights.seconds

    def around_waiting(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Have these called before it waits and when it goes on."""
        self._pause, self._resume = pause, resume

    def meet(self, part: nn.Module) -> None:
        """Wait for the others, and until a part is there; one that is or was there is waited for by nobody."""
        if part not in self.coming or self.worker is None:
            return
        synchronise([self._device])
        self._pause()
        began, read = time.perf_counter(), self._weights.seconds
        self.at = part
        self.worker.park()
        self._waited += time.perf_counter() - began - (self._weights.seconds - read)
        self._resume()


def in_step(
    works: Sequence[Callable[[Forward], T]],
    weights: Weights,
    first: nn.Module,
    parts: Sequence[nn.Module],
    device: torch.device,
    come_to: Callable[[int, int], None],
) -> list[T]:
    """Do pieces of work, each of which calls the model's own forward once.

    Args:
        works: What is to be done.
        weights: Of the model.
        first: The part that is needed before the others.
        parts: Those that a forward comes to one after the other.
        device: Where the model computes.
        come_to: Told, once a part is there, of its place and how many forwards wait for it.

    Returns:
        Their results, in order.

    Raises:
        BaseException: What the first work that failed raised; the others are ended.
    """
    around, coming = dict(vars(running)), list(parts)
    forwards = [Forward(weights, device) for _ in works]
    for forward, work in zip(forwards, works, strict=True):
        forward.coming, forward.worker = coming, Worker(partial(_alone, work, forward, around))
    try:
        with weights.held(first):
            _go_on(forwards)
        for place, part in enumerate(parts):
            here = [forward for forward in forwards if forward.at is part]
            if here:
                with weights.held(part):
                    coming.remove(part)
                    come_to(place, len(here))
                    _go_on(here)
        while going := [forward for forward in forwards if forward.worker and not forward.worker.ended]:
            coming.clear()  # what comes to parts in an order of its own reads them by itself
            _go_on(going)
        return [cast(T, forward.worker.result) for forward in forwards if forward.worker]
    finally:
        for forward in forwards:
            if forward.worker is not None:
                forward.worker.abandon()


def meet(part: nn.Module) -> None:
    """Called where a part is about to run: whoever goes in step in this thread waits there."""
    forward: Forward | None = getattr(_local, "forward", None)
    if forward is not None:
        forward.meet(part)


def _go_on(forwards: Sequence[Forward]) -> None:
    for forward in forwards:
        assert forward.worker is not None
        forward.at = None
        forward.worker.resume()
        if forward.worker.error is not None:
            raise forward.worker.error


def _alone(work: Callable[[Forward], T], forward: Forward, around: Mapping[str, Any]) -> T:
    """Do a piece of work in this thread as it would be done in the one that asked."""
    _local.forward = forward
    with torch.inference_mode(), _as_around(around):
        _warm(forward)
        return work(forward)


@contextmanager
def _as_around(around: Mapping[str, Any]) -> Iterator[None]:
    """What a capture holds in another thread, with nothing of a forward in it."""
    own: dict[str, Any] = {"carried": Carried(), **{name: {} for name in ("seen", "layers") if name in around}}
    own |= {name: deque(maxlen=value.maxlen) for name, value in around.items() if isinstance(value, deque)}
    vars(running).update({**around, **own})
    yield
    vars(running).clear()


def _warm(forward: Forward) -> None:
    """Have what a thread's first product makes (its own threads, handles and workspaces) made before it is timed."""
    one = torch.ones((256, 256), device=forward._device)
    float((one @ one)[0, 0])


_local = threading.local()
