"""Values by name that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

P = TypeVar("P")
V = TypeVar("V")


class Lazy(Mapping[str, V]):
    """What is large, by name: read from its place anew whenever it is asked for, and not kept."""

    def __init__(self, places: Mapping[str, P], read: Callable[[P], V]) -> None:
        self._places = places
        self._read: Callable[[str], V] = lambda name: read(places[name])

    def __getitem__(self, name: str) -> V:
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
