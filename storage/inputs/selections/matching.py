"""Which record of a dump is of which sample: by their token ids, since names mean nothing between two programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from indexscope.storage.inputs.samples import Sample
from indexscope.storage.inputs.selections.record import Found, Record


@dataclass(frozen=True)
class Matched:
    """What a dump has of a dataset.

    Attributes:
        records: The record of each sample that has one, by the sample's index.
        samples: Names of the samples that have none, in their order.
        unused: Names of the records that are of no sample, in their order.
    """

    records: Mapping[int, Record]
    samples: tuple[str, ...]
    unused: tuple[str, ...]


def match(found: Sequence[Found], samples: Sequence[Sample]) -> Matched:
    """Give every sample the record that shares most of its tokens.

    A record is of a sample where the tokens of one begin with all of the other's: a selection depends on what comes
    before it alone, so that a longer answer, or a shorter prompt, is the same up to the end of the shorter one. Of
    several the one with the longest common beginning that has rows is taken, of equal ones the first.

    >>> from indexscope.storage.inputs.selections.record import Found, Record
    >>> one = Found(Record("a", "a", "npz", 3, 0, 3, 1, 1), np.array([5, 6, 7]))
    >>> matched = match([one], [Sample(0, "x", (5, 6)), Sample(1, "y", (6, 5))])
    >>> matched.records[0].name, matched.samples, matched.unused
    ('a', ('y',), ())
    """
    least = min((len(one.ids) for one in found), default=1)
    least = min([least, *(len(sample.input_ids) for sample in samples)])
    beginnings: dict[bytes, list[tuple[int, bytes]]] = {}
    for number, one in enumerate(found):
        data = one.ids.tobytes()
        beginnings.setdefault(data[: 8 * least], []).append((number, data))
    records: dict[int, Record] = {}
    used: set[int] = set()
    for sample in samples:
        own = np.asarray(sample.input_ids, dtype=np.int64).tobytes()
        best = -1, 0
        for number, data in beginnings.get(own[: 8 * least], ()):
            shared = min(len(own), len(data))
            if own[:shared] != data[:shared]:
                continue
            used.add(number)
            common = min(shared // 8, found[number].record.last) - found[number].record.first
            best = (number, common) if common > best[1] else best
        if best[0] >= 0:
            records[sample.index] = found[best[0]].record
    missing = tuple(sample.name for sample in samples if sample.index not in records)
    unused = tuple(one.record.name for number, one in enumerate(found) if number not in used)
    return Matched(records, missing, unused)
