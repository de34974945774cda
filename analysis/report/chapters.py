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
        dense: The heading where no model of the study has an indexer, if that is another.
    """

    key: ChapterKey
    title: str
    dense: str = ""

    def called(self, selects: bool) -> str:
        """The heading, by whether any model selects."""
        return self.title if selects or not self.dense else self.dense


CHAPTERS = (
    Chapter("overview", "At a glance"),
    Chapter("selects", "What does it select?", "What does it attend to?"),
    Chapter("misses", "What does it miss?", "What would a selection miss?"),
    Chapter("costs", "What does it cost?"),
    Chapter("changed", "What changed?"),
    Chapter("change", "What should I change?"),
    Chapter("trust", "Can I believe it?"),
)
