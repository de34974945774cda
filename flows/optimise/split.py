"""Which samples a search sees, and which are held out to test what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from indexscope import IndexscopeError
from indexscope.storage.inputs.samples import Sample, document_of

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
        documents.setdefault(document_of(sample.name), []).append(sample.index)
    calibration: list[int] = []
    held: list[int] = []
    for document in sorted(documents, key=lambda name: sha256(name.encode()).digest()):
        (calibration if len(calibration) < share * len(samples) else held).extend(documents[document])
    if min(len(calibration), len(held)) < FEWEST // 2:
        reason = f"leaves {len(calibration)} samples for calibration and {len(held)} held out, by whole documents"
        raise IndexscopeError(where, reason, "change --calibration, or give more documents")
    return Split(tuple(calibration), tuple(held))


def apart(samples: Sequence[Sample], other: Sequence[Sample], where: str) -> Split:
    """Have other text calibrate and all samples of the study test.

    Args:
        samples: Of the study.
        other: The other text, numbered on from them.
        where: What an error names.

    Raises:
        IndexscopeError: They have a sequence in common, or either has fewer than four.
    """
    known = {sample.input_ids for sample in samples}
    both = sum(sample.input_ids in known for sample in other)
    if both:
        reason = f"holds {both} of the {len(samples)} samples on which the study measures what is found"
        raise IndexscopeError(where, reason, "give other text")
    if min(len(samples), len(other)) < FEWEST // 2:
        reason = f"has {len(other)} samples for calibration, and the study {len(samples)} to test on"
        raise IndexscopeError(where, reason, f"give {FEWEST // 2} of each at least")
    return Split(tuple(sample.index for sample in other), tuple(sample.index for sample in samples))
