"""Selections from elsewhere as a job needs them: which records are of which samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexscope.storage.inputs.selections.record import Record


@dataclass(frozen=True)
class Dump:
    """A dump of a study.

    Attributes:
        name: What people call it.
        fingerprint: Of its content, and of the layers that it is said to hold.
        records: The record of each sample that has one, by the sample's index; no selections, and no token ids.
    """

    name: str
    fingerprint: str
    records: Mapping[int, Record] = field(default_factory=dict, compare=False)

    def of(self, samples: Iterable[int]) -> Dump:
        """The same of some samples alone."""
        return replace(self, records={index: self.records[index] for index in samples if index in self.records})
