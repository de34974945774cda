"""Which modules' forwards are running at a moment of a forward."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from torch import nn


class Call(NamedTuple):
    """One call of a module; a module that is called twice has two."""

    module: nn.Module
    number: int


class Stack:
    """While it is open, knows which parts of a module are running.

    Args:
        module: The module; nothing but its hooks is touched, and these are taken away again.

    Attributes:
        calls: Outermost first; one list, which changes while the module runs.
        called: All modules that have been called.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.calls: list[Call] = []
        self.called: set[nn.Module] = set()
        self._handles: list[Any] = []
        self._number = 0

    def __enter__(self) -> Stack:
        for part in self.module.modules():
            self._handles.append(part.register_forward_pre_hook(self._enter))
            self._handles.append(part.register_forward_hook(self._leave, always_call=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, _: object) -> None:
        self._number += 1
        self.called.add(module)
        self.calls.append(Call(module, self._number))

    def _leave(self, *_: object) -> None:
        self.calls.pop()


def common(one: Sequence[Call], other: Sequence[Call]) -> tuple[Call, ...]:
    """The calls that two moments are both in."""
    places = range(min(len(one), len(other)))
    same = next((place for place in places if one[place] != other[place]), len(places))
    return tuple(one[:same])
