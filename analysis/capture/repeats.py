"""At which lengths a model is timed, and how often: as often as the times need, within a share of the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Times at a length before their spread is looked at, and the spread, of their median, at which they are enough.
ENOUGH, NARROW = 3, 0.05
#: Of a study's tokens, what the timed forwards may run; each length is timed once whatever it is.
SHARE = 0.1
#: Longest of the lengths that the settings leave to the samples.
LONGEST = 512


def own_lengths(tokens: Sequence[int]) -> tuple[int, ...]:
    """The longest sample's length, at most 512, its half and its quarter.

    >>> own_lengths([900, 20]), own_lengths([5]), own_lengths([1])
    ((128, 256, 512), (1, 2, 5), (1,))
    """
    longest = min(LONGEST, max(tokens))
    return tuple(sorted({max(1, longest // part) for part in (4, 2, 1)}))


@dataclass(frozen=True)
class Repeats:
    """How often a length is timed.

    Attributes:
        wanted: At most.
        most: What the study's tokens allow of them.
    """

    wanted: int
    most: int

    @classmethod
    def within(cls, wanted: int, lengths: Sequence[int], tokens: Sequence[int] | None) -> Repeats:
        """As many as a share of the study's tokens allows, one at least.

        >>> Repeats.within(5, (128, 256, 512), [512] * 64).most, Repeats.within(5, (128, 256, 512), [512] * 8).most
        (3, 1)
        """
        allowed = wanted if tokens is None else int(SHARE * sum(tokens)) // sum(lengths)
        return cls(wanted, max(1, min(wanted, allowed)))

    def enough(self, seconds: Sequence[float]) -> bool:
        """Whether these times need no other.

        >>> repeats = Repeats(wanted=5, most=4)
        >>> repeats.enough([1.0, 1.0]), repeats.enough([1.0, 1.01, 1.02]), repeats.enough([1.0, 1.0, 1.1])
        (False, True, False)
        """
        return len(seconds) >= self.most or self._narrow(seconds)

    def cut(self, seconds: Sequence[float]) -> bool:
        """Whether more were wanted than were allowed."""
        return len(seconds) < self.wanted and not self._narrow(seconds)

    @staticmethod
    def _narrow(seconds: Sequence[float]) -> bool:
        return len(seconds) >= ENOUGH and max(seconds) - min(seconds) <= NARROW * float(np.median(seconds))
