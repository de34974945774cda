"""Commits of a pass between two layers, so that a pass that was killed goes on where the last one was made.

What is put away: what layers returned for all sequences as far as later layers need it, what earlier layers share with
later ones, and what those who look on have gathered. `Commits` alone says how often. Where one job takes several
passes, one after the other, what the first came to is put away with the commits of the next (`once`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import IO, Any, Protocol, TypeVar

import torch

from indexscope.analysis.capture.streaming.frozen import read, write
from indexscope.analysis.capture.streaming.states import States
from indexscope.foreign import words

#: Seconds between two commits at least, and how many times what the last one took: then commits take at most a
#: twentieth of a pass, and a kill costs a minute or twenty times the commit, whichever is more.
LEAST, TIMES = 60.0, 20.0


#: Numbers and text, as JSON holds them.
Plain = TypeVar("Plain", bound=dict[str, Any])


class Place(Protocol):
    """Where the last commit of a job's passes lies."""

    def over(self, of: str) -> Any:
        """What a pass of these sequences came to, if a later one of the job was put away; None where none was."""
        ...

    def keep(self, of: str, result: Any) -> None:
        """Told what a pass came to that is over: it is put away with every later one."""
        ...

    def last(self, of: str) -> AbstractContextManager[IO[bytes] | None]:
        """The last commit of a pass of these sequences, to be read; None where there is none."""
        ...

    def commit(self, of: str, layer: int, layers: int) -> AbstractContextManager[IO[bytes]]:
        """Takes a commit in place of the last one, which stays until the block ends without an error.

        Args:
            of: What tells the sequences.
            layer: Layers that are done.
            layers: Of how many.
        """
        ...

    def goes_on(self, layer: int, layers: int) -> None:
        """Told when a pass goes on with so many layers done."""
        ...

    def warn(self, reason: str) -> None:
        """Told in a line why a pass does without: it begins anew, or nothing more is put away of it."""
        ...


class Passing(Protocol):
    """A run on its way through the layers."""

    @property
    def mark(self) -> str | None:
        """What tells its sequences and how they run; None where it cannot be put away."""
        ...

    def state(self) -> Any:
        """What it has come to, as `indexscope.analysis.capture.streaming.frozen` writes it."""
        ...

    def restore(self, state: Any) -> None:
        """Take that up."""
        ...


_place: ContextVar[Place | None] = ContextVar("place", default=None)


@contextmanager
def committing(place: Place) -> Iterator[None]:
    """Have passes within the block, in this thread, put away there what they come to."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def once(marks: Sequence[str], make: Callable[[], Plain]) -> Plain:
    """What a pass comes to, which is not made again where a later pass of the same job was killed.

    Args:
        marks: What tells the pass and its sequences.
        make: Makes it: numbers and text, as JSON holds them.
    """
    place, of = _place.get(), _told(marks)
    if place is None:
        return make()
    try:
        found = place.over(of)
    except Exception as error:
        place.warn(f"begins anew, since what was put away of it cannot be read ({words(error)})")
        found = None
    if found is None:
        found = make()
        place.keep(of, found)
    return found  # type: ignore[no-any-return]  # what was put away is what was made


def mark_of(ids: torch.Tensor, *how: object) -> str:
    """What tells a sequence [batch, S] and how it runs."""
    return hashlib.sha256(repr((tuple(ids.shape), *how)).encode() + ids.cpu().numpy().tobytes()).hexdigest()


def _told(marks: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(marks).encode()).hexdigest()


class Commits:
    """The commits of one pass; without a place, or of runs that cannot be put away, none are made.

    Args:
        passing: All runs of the pass.
        layers: How many the model has.
        states: Where outputs of layers lie.
        device: Where the model computes.
    """

    def __init__(self, passing: Sequence[Passing], layers: int, states: States, device: torch.device) -> None:
        self._passing, self._layers, self._states, self._device = passing, layers, states, device
        self._place = _place.get()
        marks = [] if self._place is None else [one.mark for one in passing]
        if not marks or None in marks:
            self._place = None
        self._of = _told(list(map(str, marks)))
        self._ended, self._took = time.monotonic(), 0.0

    def taken_up(self) -> int:
        """Take up the last commit, if there is one; says how many layers are done."""
        if self._place is None:
            return 0
        try:
            with self._place.last(self._of) as file:
                if file is None:
                    return 0
                layer, found = read(file, self._states, self._device)
        except Exception as error:  # of the disk, the bucket or what was written: the net is torn, the pass is not
            self._place.warn(f"begins anew, since what was put away of it cannot be read ({words(error)})")
            return 0
        for one, state in zip(self._passing, found, strict=True):
            one.restore(state)
        self._place.goes_on(layer, self._layers)
        self._ended = time.monotonic()
        return int(layer)

    def after(self, layer: int) -> None:
        """So many layers are done, by all runs: commit that, if it is time."""
        began = time.monotonic()
        if self._place is None or began - self._ended < max(LEAST, TIMES * self._took):
            return
        try:
            with self._place.commit(self._of, layer, self._layers) as file:
                write((layer, [one.state() for one in self._passing]), file)
        except Exception as error:
            self._place.warn(f"goes on without a net, since what it came to cannot be put away ({words(error)})")
            self._place = None
        self._ended = time.monotonic()
        self._took = self._ended - began
