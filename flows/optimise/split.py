"""Which samples a search sees, and which are held out to test what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from indexscope import IndexscopeError
from indexscope.storage.inputs.samples import Sample

#: Samples that a search needs: fewer than four on a side say nothing of a bound.
FEWEST = 8


@dataclass(frozen=True)
class Split:
    """The study's samples, divided.

    Attributes:
        calibration: Indices of those that the search runs, in the order in which it does.
        held_out: Indices of those that test what it found.
    """

    calibration: tuple[int, ...]
    held_out: tuple[int, ...]


def divided(samples: Sequence[Sample], share: float, where: str) -> Split:
    """Divide samples by a hash of their document's name, so that no document is on both sides.

    The division depends on the names alone: more samples of a dataset leave those that there were where they were, but
    for a few in the middle.

    Args:
        samples: Of the study.
        share: Of them, for calibration.
        where: What an error names.

    Raises:
        IndexscopeError: There are fewer than eight, or either side has fewer than four.
    """
    if len(samples) < FEWEST:
        reason = f"has {len(samples)} samples; a search and its test need {FEWEST} at least"
        raise IndexscopeError(where, reason, "raise dataset.samples, or give more data")
    documents: dict[str, list[int]] = {}
    for sample in samples:
        document = sample.name.rpartition("@")[0] if sample.name.rpartition("@")[2].isdecimal() else sample.name
        documents.setdefault(document or sample.name, []).append(sample.index)
    calibration: list[int] = []
    held: list[int] = []
    for document in sorted(documents, key=lambda name: sha256(name.encode()).digest()):
        (calibration if len(calibration) < share * len(samples) else held).extend(documents[document])
    if min(len(calibration), len(held)) < FEWEST // 2:
        reason = f"leaves {len(calibration)} samples for calibration and {len(held)} held out, by whole documents"
        raise IndexscopeError(where, reason, "change --calibration, or give more documents")
    return Split(tuple(calibration), tuple(held))
