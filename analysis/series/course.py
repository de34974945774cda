"""A series as the analysis is told of it: names of models in the order of a number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A model of a series: its name in the study, and its step."""

    name: str
    at: float


@dataclass(frozen=True)
class Course:
    """A series.

    Attributes:
        name: What the study calls it.
        axis: What the steps count.
        members: In the order of their steps, one at least.
    """

    name: str
    axis: str
    members: tuple[Member, ...]

    @property
    def newest(self) -> Member:
        """The member of the highest step: the one that stands for the series."""
        return self.members[-1]
