"""The questions of a reader, in the order in which the page answers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChapterKey = Literal["overview", "selects", "misses", "costs", "changed", "change", "trust"]


@dataclass(frozen=True)
class Chapter:
    """A part of the page.

    Attributes:
        key: Its id in the page.
        title: Its heading: a question, but for the overview.
        short: What the navigation calls it.
    """

    key: ChapterKey
    title: str
    short: str


CHAPTERS = (
    Chapter("overview", "At a glance", "At a glance"),
    Chapter("selects", "What does it select?", "Selects"),
    Chapter("misses", "What does it miss?", "Misses"),
    Chapter("costs", "What does it cost?", "Costs"),
    Chapter("changed", "What changed?", "Changed"),
    Chapter("change", "What should I change?", "Change"),
    Chapter("trust", "Can I believe it?", "Trust"),
)
