"""Where the outputs of layers lie until the layers after them have run."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch


class Kept(Protocol):
    """One tensor that was put away."""

    def get(self) -> torch.Tensor:
        """Its values, laid out as they were."""
        ...

    def free(self) -> None:
        """Let go of it; it is not asked for again."""
        ...


class States(Protocol):
    """A place for tensors between two layers."""

    def put(self, tensor: torch.Tensor) -> Kept:
        """Put a tensor away; nobody changes it afterwards."""
        ...


class _InMemory:
    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor: torch.Tensor | None = tensor

    def get(self) -> torch.Tensor:
        assert self._tensor is not None
        return self._tensor

    def free(self) -> None:
        self._tensor = None


class InMemory:
    """Keeps tensors where they are."""

    def put(self, tensor: torch.Tensor) -> Kept:
        """Keep a tensor."""
        return _InMemory(tensor)


@runtime_checkable
class KeepsStates(Protocol):
    """A source that takes all sequences through one layer before the next."""

    @property
    def states(self) -> States:
        """Where outputs of layers lie meanwhile."""
        ...


def states_of(source: object) -> States:
    """Where what is seen of a source's layers may lie until all have been seen; without one of its own, in memory."""
    return source.states if isinstance(source, KeepsStates) else InMemory()


class Leaf:
    """A tensor that a layer returned, or that was seen of it: kept until nothing needs it, after that a shape.

    Args:
        tensor: What was returned.
        states: Where it is put.
    """

    def __init__(self, tensor: torch.Tensor, states: States) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self._kept: Kept | None = states.put(tensor)

    @classmethod
    def without_values(cls, shape: torch.Size, dtype: torch.dtype) -> Leaf:
        """One that was dropped."""
        made = cls.__new__(cls)
        made.shape, made.dtype, made._kept = shape, dtype, None
        return made

    @property
    def has_values(self) -> bool:
        """Whether it was not dropped yet."""
        return self._kept is not None

    def value(self) -> torch.Tensor:
        """The tensor; one without values once it was dropped, so that whoever needs it after all cannot miss it."""
        if self._kept is None:
            return _without_values(self.shape, self.dtype)
        return self._kept.get()

    def drop(self) -> None:
        """Let go of the values."""
        if self._kept is not None:
            self._kept.free()
            self._kept = None


@lru_cache(maxsize=256)
def _without_values(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
