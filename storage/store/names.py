"""Names that count up, told by the first of each run and how many follow: a million take as little as one."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import overload

#: A name that ends in a number, without the sign of one.
NUMBERED = re.compile(r"(.*?)([0-9]+)", re.ASCII | re.DOTALL)


class Names(Sequence[str]):
    """Names in their order, some of which count up.

    Args:
        runs: The first name of each run, and how many it has. A number keeps the digits of the first, and takes more
            where they do not suffice.

    Example:
        >>> list(Names([("shard-09", 3), ("last", 1)]))
        ['shard-09', 'shard-10', 'shard-11', 'last']
        >>> Names.of(["shard-09", "shard-10", "shard-11", "last"]).runs
        (('shard-09', 3), ('last', 1))
    """

    def __init__(self, runs: Iterable[tuple[str, int]]) -> None:
        self.runs = tuple(runs)
        self._parts = [_part(first, count) for first, count in self.runs]
        self._ends = list(accumulate(count for _, count in self.runs))

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Find the runs of names."""
        if isinstance(names, Names):
            return names
        runs: list[tuple[str, int]] = []
        following = None
        for name in names:
            if name == following:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((name, 1))
                stem, number, width = _part(name, 1)
            number += 1
            following = f"{stem}{number:0{width}}" if width else None
        return cls(runs)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[str]:
        for (stem, start, width), (first, count) in zip(self._parts, self.runs, strict=True):
            if count == 1:
                yield first
            else:
                yield from (f"{stem}{number:0{width}}" for number in range(start, start + count))

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(place)
        run = bisect_right(self._ends, at)
        (stem, start, width), (first, count) = self._parts[run], self.runs[run]
        return first if count == 1 else f"{stem}{start + at - self._ends[run] + count:0{width}}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self.runs == other.runs
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(self.runs)

    def __repr__(self) -> str:
        return f"Names({list(self.runs)!r})"


def _part(first: str, count: int) -> tuple[str, int, int]:
    """What comes before the number of a name, the number, and its digits; no digits where it has no number.

    Raises:
        ValueError: It should count up, and has no number.
    """
    found = NUMBERED.fullmatch(first)
    if found is None:
        if count != 1:
            raise ValueError(f"{first!r} has no number to count up")
        return first, 0, 0
    if count < 1:
        raise ValueError(f"{first!r} comes {count} times")
    return found[1], int(found[2]), len(found[2])


def counted(name: str) -> tuple[str, int, str]:
    """Orders names that count up as they do, however many digits they have.

    >>> sorted(["shard-100000", "shard-99999", "result"], key=counted)
    ['result', 'shard-99999', 'shard-100000']
    """
    stem, number, _ = _part(name, 1)
    return stem, number, name
